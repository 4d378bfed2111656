"""The servers of one benchmark, all its own: durable PostgreSQL, Valkey with its AOF, anvil, workers.

What is in the environment is never used: a benchmark must not fill anybody's database.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import redis

from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.settings import Settings, get_settings
from tests.benchmarks import intake
from tests.benchmarks.configuration import BLOCKS, MOCK, Configuration
from tests.issuer import chain_variables
from tests.servers.anvil import Anvil

#: Settings that name a server.
ADDRESSES = ("DATABASE_URL", "REDIS_URL", "REDIS_HOST", "BLOCKCHAIN_RPC_URL")

#: Seconds between blocks, about those of many chains.
BLOCK_SECONDS = 2


class ForeignServer(Exception):
    """The environment names a server that somebody else has started."""


def refuse_foreign_servers() -> None:
    """Raise `ForeignServer` when the environment names any: who has set it may expect it to be used."""
    named = [name for name, value in os.environ.items() if value and name.upper() in ADDRESSES]
    if named:
        raise ForeignServer(f"unset {', '.join(named)}: a benchmark starts servers of its own")


class Site:
    """PostgreSQL and Valkey for all runs; each run has a database, a chain and workers of its own."""

    def __init__(self, *, tcp: bool = False, foreign: bool = False) -> None:
        """``tcp``: reach Valkey as others do; ``foreign``: servers in the environment are no obstacle."""
        if not foreign:
            refuse_foreign_servers()
        self._tcp = tcp
        self._stack = ExitStack()
        self.cores = sorted(os.sched_getaffinity(0))
        self.load_before = round(os.getloadavg()[0], 2)
        self._templates: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cp-")))
            self.directory.chmod(0o711)  # PostgreSQL may run as another user
            self.postgres = stack.enter_context(PostgresServer(self.directory / "postgres", durable=True))
            self.valkey = stack.enter_context(
                ValkeyServer(self.directory / "valkey", tcp=self._tcp, append_only=True)
            )
            stack.enter_context(chdir(self.directory))  # a developer's .env is none of ours
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def new_folder(self, name: str) -> Path:
        """A fresh folder whose name begins with the argument."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    @contextmanager
    def pinned(self, cores: int) -> Iterator[None]:
        """Let this process, what it starts, PostgreSQL and Valkey use only so many cores."""
        self._pin(self.cores[:cores])
        try:
            yield
        finally:
            self._pin(self.cores)

    def _pin(self, cores: list[int]) -> None:
        for root in (os.getpid(), self.postgres.pid, self.valkey.pid):
            process = psutil.Process(root)
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    one.cpu_affinity(cores)

    @contextmanager
    def run(
        self, configuration: Configuration, count: int, *, queued: bool = True
    ) -> Iterator[tuple[dict[str, str], Anvil | None]]:
        """Settings for a database with ``count`` credentials, an empty Redis and a new chain; its node.

        ``queued``: their writes are stored too.
        """
        with ExitStack() as stack:
            variables = {
                "DATABASE_URL": stack.enter_context(self._database(configuration, count, queued)),
                "REDIS_URL": self._empty_redis(),
                "BLOCKCHAIN_MOCK_ENABLED": str(configuration.chain == MOCK).lower(),
                **configuration.settings,
            }
            anvil = stack.enter_context(self._chain(configuration))
            if anvil is not None:
                variables |= {name.upper(): str(value) for name, value in chain_variables(anvil).items()}
            yield variables, anvil

    @contextmanager
    def _database(self, configuration: Configuration, count: int, queued: bool) -> Iterator[str]:
        name = f"run_{uuid.uuid4().hex}"
        url = self.postgres.create_database(name, template=self._template(count, queued))
        try:
            with psycopg.connect(url, autocommit=True) as admin:
                for setting, value in configuration.postgresql.items():
                    admin.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
                admin.execute("CHECKPOINT")  # what was written before costs this run nothing
            yield url
        finally:
            self.postgres.drop_database(name)

    def _template(self, count: int, queued: bool) -> str:
        """The name of a database with so many credentials, or queued writes; made once."""
        name = f"{'queued' if queued else 'stored'}_{count}"
        if name not in self._templates:
            with used_here({"DATABASE_URL": self.postgres.create_database(name)}):
                intake.store(count, queued=queued)
            self._templates.add(name)
        return name

    def _empty_redis(self) -> str:
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()
        return self.valkey.url

    @contextmanager
    def _chain(self, configuration: Configuration) -> Iterator[Anvil | None]:
        if configuration.chain == MOCK:
            yield None
            return
        seconds = BLOCK_SECONDS if configuration.chain == BLOCKS else None
        with Anvil(self.new_folder("anvil"), block_time_seconds=seconds) as anvil:
            yield anvil


@contextmanager
def used_here(variables: Mapping[str, str]) -> Iterator[None]:
    """Let this process's intake use them."""
    from pipeline.client import shutdown_blockchain_queue

    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    get_settings.cache_clear()
    try:
        yield
    finally:
        shutdown_blockchain_queue()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        get_settings.cache_clear()


def clean_environment() -> dict[str, str]:
    """This process's environment without the pipeline's settings."""
    return {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}

"""The servers of one benchmark, all its own: durable PostgreSQL, Valkey with its AOF, anvil, workers.

What is in the environment is never used: a benchmark must not fill anybody's database.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import redis
from dotenv import dotenv_values

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


#: Puts so many credentials into the project's database.
Filling = Callable[[int], None]


class ForeignServer(Exception):
    """The environment names a server that somebody else has started."""


def refuse_foreign_servers() -> None:
    """Raise `ForeignServer` when environment or ``.env`` name any: they may be meant to be used."""
    for place, variables in (("the environment", os.environ), (".env", dotenv_values(".env"))):
        named = sorted(name for name, value in variables.items() if value and name.upper() in ADDRESSES)
        if named:
            raise ForeignServer(f"{', '.join(named)} in {place}: this starts servers of its own")


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
        self, configuration: Configuration, count: int, *, fill: Filling = intake.stored
    ) -> Iterator[tuple[dict[str, str], Anvil | None]]:
        """Settings for a database that ``fill`` has filled, an empty Redis and a new chain; its node."""
        with ExitStack() as stack:
            variables = {
                "DATABASE_URL": stack.enter_context(self._database(configuration, count, fill)),
                "REDIS_URL": self._empty_redis(),
                "BLOCKCHAIN_MOCK_ENABLED": str(configuration.chain == MOCK).lower(),
                **configuration.settings,
            }
            anvil = stack.enter_context(self._chain(configuration))
            if anvil is not None:
                variables |= {name.upper(): str(value) for name, value in chain_variables(anvil).items()}
            yield variables, anvil

    @contextmanager
    def _database(self, configuration: Configuration, count: int, fill: Filling) -> Iterator[str]:
        name = f"run_{uuid.uuid4().hex}"
        url = self._copy(name, self._template(count, fill))
        try:
            with psycopg.connect(url, autocommit=True) as admin:
                for setting, value in configuration.postgresql.items():
                    admin.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
                admin.execute("CHECKPOINT")  # what was written before costs this run nothing
            yield url
        finally:
            self.postgres.drop_database(name)

    def _template(self, count: int, fill: Filling) -> str:
        """The name of a database that is filled like this; made once."""
        name = f"{fill.__name__}_{count}"
        if name not in self._templates:
            with used_here({"DATABASE_URL": self.postgres.create_database(name)}):
                fill(count)
            self._templates.add(name)
        return name

    def _copy(self, name: str, template: str) -> str:
        """As files, not through the write-ahead log: of a million rows, that is a gigabyte."""
        with psycopg.connect(self.postgres.url, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.postgres.database_url(name)

    def on_sqlite(self, path: Path, count: int) -> dict[str, str]:
        """Settings for a new SQLite file with so many credentials, and an empty Redis."""
        variables = {
            "DATABASE_URL": f"sqlite:///{path}",
            "REDIS_URL": self._empty_redis(),
            "BLOCKCHAIN_MOCK_ENABLED": "true",
        }
        with used_here(variables):
            intake.stored(count)
        return variables

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
    """Let this process's intake use them, and no other settings of its environment."""
    from pipeline.client import shutdown_blockchain_queue

    before = dict(os.environ)
    _become(clean_environment() | variables)
    try:
        yield
    finally:
        shutdown_blockchain_queue()
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    """Have exactly this environment, and the settings in it."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    get_settings.cache_clear()


def clean_environment() -> dict[str, str]:
    """This process's environment without the pipeline's settings."""
    return {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}

"""One run: real workers, and the time from the first message to the last confirmed credential."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
import redis

from pipeline.embedded.workers import Workers
from tests.benchmarks import intake
from tests.benchmarks.configuration import Configuration
from tests.benchmarks.site import Site, clean_environment, used_here
from tests.benchmarks.usage import Usage
from tests.servers.anvil import Anvil

#: How often the counts are asked for; the duration is wrong by no more.
POLL_SECONDS = 0.02

#: A run that takes longer has a fault.
PATIENCE_SECONDS = 600.0

ENDED = "SELECT COALESCE(SUM(delta), 0) FROM write_counts WHERE status IN ('completed', 'failed')"

#: Writes and credentials that are confirmed and are in a confirmed batch; batches; transactions of the
#: chain, without those that another of their nonce has replaced.
FOUND = """
SELECT (SELECT COUNT(*) FROM writes),
    (SELECT COUNT(*) FROM writes JOIN batches ON batches.id = batch_id
        WHERE writes.state = 'confirmed' AND batches.state = 'confirmed'),
    (SELECT COUNT(DISTINCT credential_id) FROM writes WHERE state = 'confirmed'),
    (SELECT COUNT(*) FROM batches), (SELECT COALESCE(SUM(size), 0) FROM batches),
    (SELECT COUNT(*) FROM transactions WHERE state = 'mined'),
    (SELECT COUNT(*) FROM transactions WHERE lost_at IS NULL)
"""


class WrongResult(Exception):
    """Something was not confirmed, or more than once: the figures of such a run are worth nothing."""


@dataclass(frozen=True)
class Run:
    """What one run took. CPU seconds are for 1,000 credentials, the others for each."""

    seconds: float
    credentials_per_second: float
    cpu_seconds_per_1000: Mapping[str, float]
    #: Cores that were busy with it on average.
    cores_used: float
    sql_transactions: float
    wal_bytes: float
    redis_commands: float
    #: On a chain each is a transaction.
    batches: int

    def as_json(self) -> dict[str, Any]:
        """Rounded to what means something."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def measure(site: Site, configuration: Configuration, count: int) -> Run:
    """Run ``count`` credentials through new workers. Raises `WrongResult`."""
    warm_up = min(configuration.warm_up, count)
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(configuration, warm_up + count, fill=intake.queued))
        workers = stack.enter_context(running(site, configuration, variables))
        groups = {
            "workers": [master.pid for master in workers],
            "postgresql": [site.postgres.pid],
            "valkey": [site.valkey.pid],
            **({"anvil": [anvil.pid]} if anvil else {}),
        }
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        client = stack.enter_context(redis.Redis.from_url(site.valkey.url))
        stack.enter_context(used_here(variables))
        write_ids = intake.waiting()
        intake.send(write_ids[:warm_up], 1)
        await_end(admin, warm_up)
        batches = _batches(admin)
        before, begin = Usage.now(groups, admin, client), time.monotonic()
        intake.send(write_ids[warm_up:], configuration.message_size)
        await_end(admin, len(write_ids))
        seconds, used = time.monotonic() - begin, Usage.now(groups, admin, client).since(before)
        check(admin, anvil, len(write_ids))
        batches = _batches(admin) - batches
    return _run(count, seconds, used, batches)


@contextmanager
def running(
    site: Site, configuration: Configuration, variables: Mapping[str, str]
) -> Iterator[list[Workers]]:
    """Masters that share nothing but the servers in ``variables``."""
    cores = configuration.cores or len(site.cores)
    with ExitStack() as stack, site.pinned(cores):
        started = []
        for _ in range(configuration.masters):
            folder = site.new_folder("workers")
            workers = Workers(
                folder,
                environment={**clean_environment(), **variables},
                working_directory=folder,
                processes=configuration.processes,
                threads=configuration.threads,
            )
            stack.callback(workers.kill)
            started.append(workers.start())
        yield started


def await_end(admin: psycopg.Connection[Any], count: int) -> None:
    """Return once so many writes have ended. Raises `WrongResult` after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ended(admin) < count:
        if time.monotonic() > deadline:
            raise WrongResult(f"{ended(admin)} of {count} have ended after {PATIENCE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def ended(admin: psycopg.Connection[Any]) -> int:
    """How many writes are confirmed or failed."""
    [(number,)] = admin.execute(ENDED)
    return int(number)


def check(admin: psycopg.Connection[Any], anvil: Anvil | None, count: int) -> None:
    """Raise `WrongResult` unless so many are confirmed, each once, by a transaction for each batch."""
    [found] = admin.execute(FOUND)
    writes, confirmed, credentials_, batches, members, mined, transactions = map(int, found)
    if not writes == confirmed == credentials_ == members == count:
        raise WrongResult(f"{count} were queued; writes, confirmed, credentials, members: {found[:5]}")
    if anvil is None:
        return
    # The first transaction of the signer has deployed the registry.
    sent = int(anvil.rpc("eth_getTransactionCount", anvil.address, "latest"), 16) - 1
    if not sent == mined == transactions == batches:
        raise WrongResult(
            f"{batches} batches, {sent} transactions on the chain, {mined} of {transactions} mined"
        )


def _batches(admin: psycopg.Connection[Any]) -> int:
    [(number,)] = admin.execute("SELECT COUNT(*) FROM batches")
    return int(number)


def _run(count: int, seconds: float, used: Usage, batches: int) -> Run:
    return Run(
        seconds=seconds,
        credentials_per_second=count / seconds,
        cpu_seconds_per_1000={name: 1000 * spent / count for name, spent in used.cpu_seconds.items()},
        cores_used=sum(used.cpu_seconds.values()) / seconds,
        sql_transactions=used.transactions / count,
        wal_bytes=used.wal_bytes / count,
        redis_commands=used.redis_commands / count,
        batches=batches,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value

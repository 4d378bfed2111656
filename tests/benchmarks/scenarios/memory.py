"""What a queued credential takes in Redis, and what a worker holds when many have gone through."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import psutil
import psycopg
import redis

from tests.benchmarks.configuration import AUTOMINE, NO_WALL, Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_most

QUEUED = "Redis bytes a credential queued in bulk"
WORKER, MASTER = "worker process after 10,000 on a chain, RSS MB", "Dramatiq's master beside it, RSS MB"

CONFIGURATION = Configuration("memory", chain=AUTOMINE, settings=NO_WALL)


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(CONFIGURATION, count))
        client = stack.enter_context(redis.Redis.from_url(site.valkey.url))
        before = _used_memory(client)
        with used_here(variables):
            send_in_bulk(items(count))
        queued = (_used_memory(client) - before) / count
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        [workers] = stack.enter_context(running(site, CONFIGURATION, variables))
        await_end(admin, count)
        [worker] = workers.worker_pids()
        rss = {WORKER: tree_rss_mb(worker), MASTER: rss_mb(workers.pid)}
        check(admin, anvil, count)
    return {QUEUED: queued, **rss}


def _used_memory(client: redis.Redis) -> int:
    information: Any = client.info("memory")
    return int(information["used_memory"])


def rss_mb(pid: int) -> float:
    """Of one process."""
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def tree_rss_mb(root: int) -> float:
    """With what it has started."""
    return sum(rss_mb(one) for one in [root, *(child.pid for child in psutil.Process(root).children(True))])


def theirs(peer: Peer, count: int) -> Figures:
    """The RSS is that of its one process, after 10,000 mocked ones whatever ``count`` is."""
    [row] = peer.rows("E", "--n", str(count))
    return {QUEUED: row["redis_bytes_per_job"], WORKER: row["worker_after_10k"]["rss_mb"]}


MEMORY = Scenario(
    "memory",
    (Measure(QUEUED, at_most(200)), Measure(WORKER, at_most(130)), Measure(MASTER)),
    ours,
    theirs,
    seconds=(20, 20),
)

"""What a queued credential takes in Redis, and what the workers hold when many have gone through."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import psutil
import psycopg
import redis

from tests.benchmarks.configuration import Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here

QUEUED, RSS = "Redis bytes a queued credential", "RSS of the workers' processes after it, MB"


def ours(site: Site, count: int) -> Figures:
    """In bulk; the RSS is of one worker process and its master."""
    configuration = Configuration("memory")
    with ExitStack() as stack:
        variables, _ = stack.enter_context(site.run(configuration, count, queued=False))
        client = stack.enter_context(redis.Redis.from_url(site.valkey.url))
        before = _used_memory(client)
        with used_here(variables):
            send_in_bulk(items(count))
        queued = (_used_memory(client) - before) / count
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        [workers] = stack.enter_context(running(site, configuration, variables))
        await_end(admin, count)
        rss = _tree_rss_mb(workers.pid)
        check(admin, None, count)
    return {QUEUED: queued, RSS: rss}


def _used_memory(client: redis.Redis) -> int:
    information: Any = client.info("memory")
    return int(information["used_memory"])


def _tree_rss_mb(root: int) -> float:
    first = psutil.Process(root)
    return sum(process.memory_info().rss for process in [first, *first.children(recursive=True)]) / 2**20


def theirs(peer: Peer, count: int) -> Figures:
    """The RSS is that of its one process, after 10,000 whatever ``count`` is."""
    [row] = peer.rows("E", "--n", str(count))
    return {QUEUED: row["redis_bytes_per_job"], RSS: row["worker_after_10k"]["rss_mb"]}


MEMORY = Scenario("memory", (Measure(QUEUED, False), Measure(RSS, False)), ours, theirs)

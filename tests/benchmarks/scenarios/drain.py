"""What waits when workers start: how many a second they confirm, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg

from tests.benchmarks.configuration import Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import Item, items, send_in_bulk, send_one_by_one
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.usage import tree_cpu_seconds

RATE, CPU = "credentials a second", "CPU s per 1,000"

#: Single sends take far longer to hand in than to drain: a part is enough.
SINGLE_SHARE = 0.2


def drained(
    site: Site, configuration: Configuration, count: int, hand_in: Callable[[list[Item]], Any]
) -> Figures:
    """Hand in, start workers, and measure from their being ready to the last confirmed row."""
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(configuration, count, queued=False))
        with used_here(variables):
            hand_in(items(count))
        servers = [site.postgres.pid, site.valkey.pid]
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        before = sum(map(tree_cpu_seconds, servers))
        workers = stack.enter_context(running(site, configuration, variables))
        masters = [master.pid for master in workers]
        ready, before = time.time(), before + sum(map(tree_cpu_seconds, masters))
        await_end(admin, count)
        cpu = sum(map(tree_cpu_seconds, servers + masters)) - before
        check(admin, anvil, count)
        [(first, last)] = admin.execute("SELECT MIN(finished_at), MAX(finished_at) FROM writes")
    begin = min(ready, first)  # the line is logged, and seen, a little after the first message is taken
    return {RATE: count / (last - begin), CPU: 1000 * cpu / count}


def bulk_ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    return drained(site, Configuration("mock"), count, send_in_bulk)


def single_ours(site: Site, count: int) -> Figures:
    """The same, a message for each credential."""
    return drained(site, Configuration("mock"), max(1, round(SINGLE_SHARE * count)), send_one_by_one)


def theirs(peer: Peer, count: int) -> Figures:
    """One worker; the better of its two concurrencies. A job is a job to it, however handed in."""
    rows = peer.rows("B", "--n", str(count), "--workers", "1", "--conc", "5,50")
    best = max(rows, key=lambda row: float(row["per_s_from_ready"]))
    return {
        RATE: best["per_s_from_ready"],
        CPU: best["cpu_worker"] + best["cpu_redis"] + best["cpu_pg"],
    }


MEASURES = (Measure(RATE, True), Measure(CPU, False))
DRAIN = Scenario("mock drain, from bulk", MEASURES, bulk_ours, theirs)
SINGLE_DRAIN = Scenario("mock drain, from single sends", MEASURES, single_ours, theirs)

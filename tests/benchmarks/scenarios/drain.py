"""What waits when workers start: how many a second they confirm, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg

from tests.benchmarks.configuration import MOCK, Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import Item, items, send_in_bulk, send_one_by_one
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_least, at_most
from tests.benchmarks.usage import tree_cpu_seconds

RATE, CPU = "credentials a second", "CPU s per 1,000 in all"
BULK, SINGLE = "queued in bulk", "queued by `.send()`"

PEER_CPU = ("cpu_worker", "cpu_redis", "cpu_pg", "cpu_anvil")


def drained(
    site: Site,
    configuration: Configuration,
    count: int,
    hand_in: Callable[[list[Item]], Any] = send_in_bulk,
) -> Figures:
    """Hand in, start workers, and measure from their being ready to the last confirmed row.

    Both sides begin cold: what a process loads or compiles at its first job counts.
    """
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(configuration, count))
        with used_here(variables):
            hand_in(items(count))
        servers = [site.postgres.pid, site.valkey.pid, *([anvil.pid] if anvil else [])]
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


def best_of(rows: list[dict[str, Any]]) -> Figures:
    """The fastest of a peer's concurrencies."""
    best = max(rows, key=lambda row: float(row["per_s_from_ready"]))
    return {RATE: best["per_s_from_ready"], CPU: sum(best.get(name, 0.0) for name in PEER_CPU)}


def named(prefix: str, figures: Figures) -> Figures:
    """Told apart from those of another run."""
    return {f"{prefix}, {name}": value for name, value in figures.items()}


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    configuration = Configuration(MOCK)
    return {
        **named(BULK, drained(site, configuration, count)),
        **named(SINGLE, drained(site, configuration, count, send_one_by_one)),
    }


def theirs(peer: Peer, count: int) -> Figures:
    """One worker; the best of its concurrencies. A job is a job to it, however handed in."""
    found = best_of(peer.rows("B", "--n", str(count), "--workers", "1", "--conc", "5,50"))
    return {**named(BULK, found), **named(SINGLE, found)}


DRAIN = Scenario(
    "mock drain",
    (
        Measure(f"{BULK}, {RATE}", at_least(3, times_peer=True)),
        Measure(f"{BULK}, {CPU}", at_most(0.4)),
        Measure(f"{SINGLE}, {RATE}", at_least(1, times_peer=True)),
        Measure(f"{SINGLE}, {CPU}"),
    ),
    ours,
    theirs,
    seconds=(60, 20),
)

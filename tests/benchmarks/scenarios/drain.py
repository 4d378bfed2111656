"""What waits when workers start: how many a second they confirm, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg

from tests.benchmarks.configuration import ALONE, AUTOMINE, BLOCKS, MOCK, NO_WALL, Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import Item, items, send_in_bulk, send_one_by_one
from tests.benchmarks.site import BLOCK_SECONDS, Site, used_here
from tests.benchmarks.usage import tree_cpu_seconds

RATE, CPU = "credentials a second", "CPU s per 1,000"

PEER_CPU = ("cpu_worker", "cpu_redis", "cpu_pg", "cpu_anvil")

Ours = Callable[[Site, int], Figures]
Theirs = Callable[[Peer, int], Figures]


def drained(
    site: Site, configuration: Configuration, count: int, hand_in: Callable[[list[Item]], Any]
) -> Figures:
    """Hand in, start workers, and measure from their being ready to the last confirmed row."""
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(configuration, count, queued=False))
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


def _ours(configuration: Configuration, hand_in: Callable[[list[Item]], Any] = send_in_bulk) -> Ours:
    """One worker process with its five threads."""
    return lambda site, count: drained(site, configuration, configuration.count(count), hand_in)


def _theirs(scenario: str, *options: str, share: float = 1.0, concurrencies: str = "5,50") -> Theirs:
    """One worker; the best of its concurrencies. A job is a job to it, however handed in."""

    def measure(peer: Peer, count: int) -> Figures:
        n = str(max(1, round(share * count)))
        rows = peer.rows(scenario, "--n", n, "--workers", "1", "--conc", concurrencies, *options)
        best = max(rows, key=lambda row: float(row["per_s_from_ready"]))
        return {RATE: best["per_s_from_ready"], CPU: sum(best.get(name, 0.0) for name in PEER_CPU)}

    return measure


def _drain(name: str, ours: Ours, theirs: Theirs) -> Scenario:
    return Scenario(f"drain, {name}", (Measure(RATE, True), Measure(CPU, False)), ours, theirs)


MOCK_DRAINS = [
    _drain("mock, from bulk", _ours(Configuration(MOCK)), _theirs("B")),
    _drain("mock, from single sends", _ours(Configuration(MOCK, share=0.2), send_one_by_one), _theirs("B")),
]
#: The shares keep either side busy for seconds, not minutes.
CHAIN_DRAINS = [
    _drain("automine", _ours(Configuration(AUTOMINE, chain=AUTOMINE)), _theirs("C", share=0.1)),
    _drain(
        "automine, batches of 1",
        _ours(Configuration(AUTOMINE, chain=AUTOMINE, settings=NO_WALL | ALONE, share=0.02)),
        _theirs("C", share=0.1),
    ),
    _drain(
        "2 s blocks",
        _ours(Configuration(BLOCKS, chain=BLOCKS)),
        _theirs("C", "--block-time", str(BLOCK_SECONDS), share=0.02, concurrencies="50"),
    ),
]

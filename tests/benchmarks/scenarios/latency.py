"""An idle system: how long one credential takes from the call to its confirmed row."""

from __future__ import annotations

import random
import statistics
import time
from contextlib import ExitStack

import psycopg

from tests.benchmarks.configuration import AUTOMINE, MOCK, NO_WALL, Configuration
from tests.benchmarks.measuring import PATIENCE_SECONDS, WrongResult, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items
from tests.benchmarks.site import Site, used_here

#: Of each mode. The peer has sixty, and waits less for them.
CREDENTIALS = 20

#: Between two looks at the row, as the peer does.
POLL_SECONDS = 0.001

NAMES = {"mock": "mock, p50 ms", "automine": "automine, p50 ms"}

STATE = "SELECT state FROM writes WHERE credential_id = %s"


def latencies(site: Site, configuration: Configuration, count: int) -> list[float]:
    """Milliseconds of each credential, one at a time."""
    from pipeline.client import write_to_blockchain_queued

    took = []
    with ExitStack() as stack:
        variables, _ = stack.enter_context(site.run(configuration, count, queued=False))
        stack.enter_context(running(site, configuration, variables))
        stack.enter_context(used_here(variables))
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        for item in items(count):
            begin = time.perf_counter()
            write_to_blockchain_queued(*item)
            _await_confirmation(admin, item[0])
            took.append(1000 * (time.perf_counter() - begin))
            time.sleep(random.uniform(0.03, 0.07))  # idle again, and in step with no timer
    return took


def _await_confirmation(admin: psycopg.Connection[tuple[str]], credential_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while admin.execute(STATE, [credential_id], prepare=True).fetchone() != ("confirmed",):
        if time.monotonic() > deadline:
            raise WrongResult(f"{credential_id} is not confirmed after {PATIENCE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    return {
        name: statistics.median(
            latencies(site, Configuration(mode, chain=chain, settings=NO_WALL), min(count, CREDENTIALS))
        )
        for (mode, name), chain in zip(NAMES.items(), (MOCK, AUTOMINE), strict=True)
    }


def theirs(peer: Peer, _count: int) -> Figures:
    """Both modes, with a concurrency of five."""
    return {NAMES[row["mode"]]: row["p50_ms"] for row in peer.rows("G")}


LATENCY = Scenario("idle latency", tuple(Measure(name, False) for name in NAMES.values()), ours, theirs)

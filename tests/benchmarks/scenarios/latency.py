"""An idle system: how long one credential takes from the call to its confirmed row, and what idling costs."""

from __future__ import annotations

import random
import statistics
import time
from contextlib import ExitStack
from typing import Any

import psycopg
import redis

from tests.benchmarks.configuration import AUTOMINE, MOCK, NO_WALL, Configuration
from tests.benchmarks.measuring import PATIENCE_SECONDS, WrongResult, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_most

#: Of each mode, as many as the peer's.
CREDENTIALS = 60

#: Between two looks at the row, as the peer does.
POLL_SECONDS = 0.001

#: For which nothing is asked of it before calls are counted, and while they are.
SETTLING_SECONDS, IDLE_SECONDS = 2.0, 10.0

MOCKED, MINED = "mock, p50 ms", "automine, p50 ms"
CALLS = "Redis calls a second of an idle worker process"

STATE = "SELECT state FROM writes WHERE credential_id = %s"


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    count = min(count, CREDENTIALS)
    took, calls = _measured(site, Configuration("mock", chain=MOCK, settings=NO_WALL), count, IDLE_SECONDS)
    mined, _ = _measured(site, Configuration("automine", chain=AUTOMINE, settings=NO_WALL), count, None)
    return {MOCKED: statistics.median(took), MINED: statistics.median(mined), CALLS: calls}


def _measured(
    site: Site, configuration: Configuration, count: int, idle_seconds: float | None
) -> tuple[list[float], float]:
    """Milliseconds of each credential, one at a time; and calls a second afterwards, if told so."""
    with ExitStack() as stack:
        variables, _ = stack.enter_context(site.run(configuration, count))
        stack.enter_context(running(site, configuration, variables))
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        with used_here(variables):
            took = _latencies(admin, count)
        return took, _calls(site, idle_seconds) if idle_seconds else 0.0


def _latencies(admin: psycopg.Connection[Any], count: int) -> list[float]:
    from pipeline.actors import hash_verify

    took = []
    for item in items(count):
        begin = time.perf_counter()
        hash_verify.send(*item)
        _await_confirmation(admin, item[0])
        took.append(1000 * (time.perf_counter() - begin))
        time.sleep(random.uniform(0.03, 0.07))  # idle again, and in step with no timer
    return took


def _await_confirmation(admin: psycopg.Connection[Any], credential_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while admin.execute(STATE, [credential_id], prepare=True).fetchone() != ("confirmed",):
        if time.monotonic() > deadline:
            raise WrongResult(f"{credential_id} is not confirmed after {PATIENCE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _calls(site: Site, seconds: float) -> float:
    """A second, of whoever is connected, in so many seconds."""
    time.sleep(SETTLING_SECONDS)
    with redis.Redis.from_url(site.valkey.url) as client:
        before, begin = calls_so_far(client), time.monotonic()
        time.sleep(seconds)
        return (calls_so_far(client) - before - 1) / (time.monotonic() - begin)  # the one that asks is ours


def calls_so_far(client: redis.Redis) -> int:
    """Of all commands, those inside of scripts included."""
    statistics: Any = client.info("commandstats")
    return sum(int(command["calls"]) for command in statistics.values())


def theirs(peer: Peer, _count: int) -> Figures:
    """Both modes, with a concurrency of five."""
    names = {"mock": MOCKED, "automine": MINED}
    return {names[row["mode"]]: row["p50_ms"] for row in peer.rows("G")}


LATENCY = Scenario(
    "idle, queued → confirmed",
    (Measure(MOCKED, at_most(25)), Measure(MINED, at_most(60)), Measure(CALLS, at_most(20))),
    ours,
    theirs,
    seconds=(60, 25),
)

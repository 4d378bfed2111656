"""The node away, a worker killed, Redis killed: what is lost, failed, twice on the chain, and for how long.

What is true is asked of the chain and of the rows, on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Workers
from tests.benchmarks.anchored import outcome
from tests.benchmarks.configuration import ALONE, AUTOMINE, NO_WALL, Configuration
from tests.benchmarks.measuring import POLL_SECONDS, WrongResult, ended, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import Target, at_most, longest_gap
from tests.servers.fault_proxy import FaultProxy

LOST, FAILED, TWICE = "lost", "failed for good", "twice on the chain"
GAP, LAST = "longest time without a confirmation, s", "last confirmation after the fault, s"

#: The part of all credentials that is queued, and of these the part after which the fault comes.
SHARE, CONFIRMED_BEFORE = 0.1, 0.3

#: For so long the node is away, and Redis.
NODE_AWAY_SECONDS, REDIS_AWAY_SECONDS = 20.0, 2.0

#: Without progress for so long, no more is expected: more than our longest backoff.
STALL_SECONDS = 60.0

#: Each is a transaction of its own, as the peer's: a batch of all would be before the fault or behind it.
SETTINGS = NO_WALL | ALONE

CONFIRMED = "SELECT COUNT(*) FROM writes WHERE state = 'confirmed'"


@dataclass
class Stage:
    """What a fault can be made at."""

    proxy: FaultProxy
    valkey: ValkeyServer
    workers: list[Workers]


def node_away(stage: Stage) -> None:
    """Each connection is closed."""
    stage.proxy.down = True
    time.sleep(NODE_AWAY_SECONDS)
    stage.proxy.down = False


def worker_killed(stage: Stage) -> None:
    """SIGKILL to one of them, with its master."""
    stage.workers[0].kill()


def redis_killed(stage: Stage) -> None:
    """SIGKILL; it starts with nothing."""
    stage.valkey.kill()
    time.sleep(REDIS_AWAY_SECONDS)
    stage.valkey.start()


def _ours(masters: int, fault: Callable[[Stage], None], site: Site, count: int) -> Figures:
    """``masters`` with a worker process each, five threads, and a Redis of its own without a file."""
    count = max(10, round(SHARE * count))
    configuration = Configuration("faults", masters=masters, chain=AUTOMINE, settings=SETTINGS)
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(configuration, count))
        assert anvil is not None
        proxy = stack.enter_context(FaultProxy(anvil.rpc_url))
        valkey = stack.enter_context(ValkeyServer(site.new_folder("valkey"), tcp=True, append_only=False))
        variables |= {"BLOCKCHAIN_RPC_URL": proxy.url, "REDIS_URL": valkey.url}
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        workers = stack.enter_context(running(site, configuration, variables))
        with used_here(variables):
            send_in_bulk(items(count))  # when all are ready: one of two would be through with it before
        _await_confirmed(admin, round(CONFIRMED_BEFORE * count))
        begin = time.time()
        fault(Stage(proxy, valkey, workers))
        _await_confirmed(admin, count)
        found = outcome(anvil, variables["BLOCKCHAIN_CONTRACT_ADDRESS"], admin, count)
    if found.confirmed_at[-1] < begin:
        raise WrongResult("all were confirmed before the fault")
    return {
        LOST: found.lost,
        FAILED: found.failed,
        TWICE: found.twice,
        GAP: longest_gap(found.confirmed_at, begin),
        LAST: found.confirmed_at[-1] - begin,
    }


def _await_confirmed(admin: psycopg.Connection[Any], count: int) -> None:
    """Return once so many are confirmed, or when nothing has happened for `STALL_SECONDS`."""
    last, since = -1, time.monotonic()
    while (confirmed := _confirmed(admin)) < count and time.monotonic() < since + STALL_SECONDS:
        if confirmed + ended(admin) != last:
            last, since = confirmed + ended(admin), time.monotonic()
        time.sleep(POLL_SECONDS)


def _confirmed(admin: psycopg.Connection[Any]) -> int:
    [(number,)] = admin.execute(CONFIRMED)
    return int(number)


def _theirs(fault: str, peer: Peer, count: int) -> Figures:
    """A concurrency of five; a signer for each worker."""
    n = str(max(10, round(SHARE * count)))
    [row] = peer.rows("F", "--fault", fault, "--n", n, append_only=fault != "redis")
    return {
        LOST: row["lost"],
        FAILED: row["failed"],
        TWICE: row["duplicated_on_chain"],
        GAP: row["longest_gap_s"],
        LAST: row["last_confirm_after_fault_s"],
    }


def _scenario(
    name: str,
    fault: tuple[str, Callable[[Stage], None]],
    masters: int,
    seconds: tuple[float, float],
    gap: Target | None = None,
) -> Scenario:
    never = at_most(0, always=True)
    return Scenario(
        name,
        (
            *(Measure(one, never, divided=False) for one in (LOST, FAILED, TWICE)),
            Measure(GAP, gap, divided=False),
            Measure(LAST, divided=False),
        ),
        partial(_ours, masters, fault[1]),
        partial(_theirs, fault[0]),
        seconds,
    )


FAULTS = [
    _scenario("node away for 20 s", ("rpc", node_away), 1, (50, 90)),
    _scenario(
        "one of two workers killed", ("worker", worker_killed), 2, (40, 90), gap=at_most(10, always=True)
    ),
    _scenario("Redis killed without AOF", ("redis", redis_killed), 2, (40, 125)),
]

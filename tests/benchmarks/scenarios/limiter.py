"""Ten a second: how many are written in the busiest second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import psycopg

from tests.benchmarks.configuration import ALONE, Configuration
from tests.benchmarks.measuring import await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here

#: Ten seconds' worth, at most.
CREDENTIALS = 100

#: The limit is the pipeline's default; one credential in each transaction, so that it counts them.
LIMITED = Configuration("limiter", settings=ALONE)

BUSIEST = "most in any second"


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads."""
    count = min(count, CREDENTIALS)
    with ExitStack() as stack:
        variables, _ = stack.enter_context(site.run(LIMITED, count, queued=False))
        with used_here(variables):
            send_in_bulk(items(count))
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        stack.enter_context(running(site, LIMITED, variables))
        await_end(admin, count)
        check(admin, None, count)
        times = [time for (time,) in admin.execute("SELECT finished_at FROM writes ORDER BY 1")]
    return {BUSIEST: busiest(times)}


def busiest(times: Sequence[float]) -> int:
    """How many of these sorted times are in the fullest second, wherever it begins."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def theirs(peer: Peer, count: int) -> Figures:
    """One worker with a concurrency of five."""
    [row] = peer.rows("D", "--workers", "1", "--n", str(min(count, CREDENTIALS)))
    return {BUSIEST: row["max_in_any_1s"]}


LIMITER = Scenario("limiter", (Measure(BUSIEST, False),), ours, theirs)

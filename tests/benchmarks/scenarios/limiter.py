"""Ten a second: what is granted, what the node gets, and what is confirmed, in the busiest second."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg

from tests.benchmarks.configuration import ALONE, AUTOMINE, Configuration
from tests.benchmarks.measuring import WrongResult, await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_least, at_most, busiest
from tests.servers.fault_proxy import FaultProxy
from tests.watching import watched

#: Fifteen seconds' worth, at most.
CREDENTIALS = 150

#: The limit is the pipeline's default; one credential in each transaction, so that it counts them.
LIMITED = Configuration("limiter", chain=AUTOMINE, settings=ALONE)

GRANTED, ARRIVED, CONFIRMED, SUSTAINED = (
    "most grants in any second",
    "most at the node in any second",
    "most confirmed in any second",
    "sustained, a second",
)


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads, and a proxy before the node that takes the time."""
    count = min(count, CREDENTIALS)
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(LIMITED, count))
        assert anvil is not None
        proxy = stack.enter_context(FaultProxy(anvil.rpc_url))
        seen = stack.enter_context(watched(site.valkey.url))
        with used_here(variables):
            send_in_bulk(items(count))
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        stack.enter_context(running(site, LIMITED, variables | {"BLOCKCHAIN_RPC_URL": proxy.url}))
        await_end(admin, count)
        check(admin, anvil, count)
        confirmed = [time for (time,) in admin.execute("SELECT finished_at FROM writes")]
        slots, arrived = list(seen.slots), [sent.at for sent in proxy.sent]
    if min(len(slots), len(arrived)) < count:
        raise WrongResult(f"limiter: {len(slots)} slots and {len(arrived)} arrivals of {count} were seen")
    return {
        GRANTED: busiest(slots),
        ARRIVED: busiest(arrived),
        CONFIRMED: busiest(confirmed),
        SUSTAINED: _rate(sorted(slots)[:count]),
    }


def _rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def theirs(peer: Peer, count: int) -> Figures:
    """One worker with a concurrency of five, mocked: of it the confirmed rows are what one can see."""
    n = min(count, CREDENTIALS)
    [row] = peer.rows("D", "--workers", "1", "--n", str(n))
    most = row["max_in_any_1s"]
    return {ARRIVED: most, CONFIRMED: most, SUSTAINED: (n - 1) / row["seconds_first_to_last"]}


LIMITER = Scenario(
    "limiter at 10 a second",
    (
        Measure(GRANTED, at_most(10, always=True)),
        Measure(ARRIVED, at_most(13, always=True)),
        Measure(CONFIRMED),
        Measure(SUSTAINED, at_least(9.8)),
    ),
    ours,
    theirs,
    seconds=(25, 20),
)

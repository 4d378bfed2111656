"""What a credential takes of a block: alone, and among a thousand."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg

from tests.benchmarks.configuration import AUTOMINE, NO_WALL, Configuration
from tests.benchmarks.measuring import WrongResult, await_end, check, running
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.intake import items, send_in_bulk
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_most
from tests.servers.anvil import Anvil

TOGETHER, ALONE = "1,000 in a batch", "alone"
SIZE = 1000

#: So long a batch stays open that all are in it which were handed in together.
LINGERING = Configuration("gas", chain=AUTOMINE, settings=NO_WALL | {"BATCH_LINGER_MS": "3000"})

BATCHES = "SELECT size, transaction_hash FROM batches"


def ours(site: Site, _count: int) -> Figures:
    """One batch of a thousand, and one of one: gas as the node's receipts have it."""
    handed_in = items(SIZE + 1)
    with ExitStack() as stack:
        variables, anvil = stack.enter_context(site.run(LINGERING, len(handed_in)))
        assert anvil is not None
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        stack.enter_context(running(site, LINGERING, variables))
        with used_here(variables):
            send_in_bulk(handed_in[:SIZE])
            await_end(admin, SIZE)
            send_in_bulk(handed_in[SIZE:])
        await_end(admin, len(handed_in))
        check(admin, anvil, len(handed_in))
        gas = {size: _gas(anvil, transaction) / size for size, transaction in admin.execute(BATCHES)}
    if set(gas) != {SIZE, 1}:
        raise WrongResult(f"gas: batches of {sorted(gas)}, not of {SIZE} and 1")
    return {TOGETHER: gas[SIZE], ALONE: gas[1]}


def _gas(anvil: Anvil, transaction: str) -> int:
    return int(anvil.rpc("eth_getTransactionReceipt", transaction)["gasUsed"], 16)


def theirs(peer: Peer, _count: int) -> Figures:
    """Of the contract that it uses by default: a transaction for each, however many there are."""
    gas = next(row["gas"] for row in peer.rows("gas") if row["name"] == "CredentialAnchor")
    return {TOGETHER: gas, ALONE: gas}


GAS = Scenario(
    "gas a credential",
    (Measure(TOGETHER, at_most(60)), Measure(ALONE, at_most(56_000))),
    ours,
    theirs,
    seconds=(15, 5),
)

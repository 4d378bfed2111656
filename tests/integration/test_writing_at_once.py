"""Promise: where blocks come at once, a turn's writes share guards and sweeps, within all limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline import chain_writing, holding, outlook, settlement
from pipeline.chain.client import chain_client
from pipeline.credentials import sync
from pipeline.errors import InsufficientFunds
from pipeline.ledger import finality, incidents, under_way
from pipeline.models import State, Transaction, TransactionState, Write
from pipeline.outlook import Outlook
from pipeline.settlement import pace
from pipeline.verification import verify
from tests.issuer import document, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete
from tests.truth import assert_truthful

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

#: Transactions that may be in flight.
ROOM = 4


@pytest.fixture(autouse=True)
def at_once(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction has a block as soon as it is sent; the guards are believed for a whole turn."""
    use(blockchain_max_in_flight=ROOM)
    anvil.rpc("evm_setAutomine", True)
    monkeypatch.setattr(outlook, "BELIEVED_SECONDS", 60.0)
    monkeypatch.setattr(pace, "_mines_at_once", True)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nonces waited for each sweep that the writer has made."""
    seen: list[int] = []
    settle = settlement.settle

    def counted(*, by_writer: bool = False) -> bool:
        chain = chain_client()
        seen.append(len(under_way.waiting(chain.chain_id, chain.signer_address)))
        return settle(by_writer=by_writer)

    monkeypatch.setattr(settlement, "settle", counted)
    return seen


def queued(count: int) -> None:
    """So many batches of one that are ready."""
    queue_documents(count)
    verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])


def queued_later(first: int, count: int) -> None:
    """The same of others."""
    sync([{"credential_id": f"more{n}", "document": document(n)} for n in range(first, first + count)])
    verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])


def held_by() -> str | None:
    """The kind of what holds chain writing."""
    held = incidents.holding()
    return held and held.kind


def finished(anvil: Anvil, count: int) -> None:
    """All are confirmed, and that is so."""
    settle_and_complete()
    assert confirmed() == count
    assert_truthful(anvil, chain_settings())


def test_one_sweep_for_many_rounds(
    proxy: FaultProxy, anvil: Anvil, sweeps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four at once: what the chain has used makes room; the sweep is the writer's own when none keeps up."""
    monkeypatch.setattr(chain_writing, "MOST_UNSWEPT", 100)
    queued(120)
    chain_writing.write_ready()
    # Of a round of four some may not be mined when they are counted, and the next one is smaller.
    assert sweeps[0] in range(100, 100 + ROOM)
    assert sweeps[1] in range(21 - ROOM, 20 + ROOM)
    assert proxy.counts[SEND] == 120
    finished(anvil, 120)


def test_another_thread_sweeps_meanwhile(
    proxy: FaultProxy, anvil: Anvil, sweeps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to when it is worth it, and not to have anything written: the writer does that."""
    asked: list[tuple[str, *tuple[object, ...]]] = []
    monkeypatch.setattr(chain_writing.messages, "send", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(chain_writing, "AT_ONCE_SETTLE_SECONDS", 0.0)
    queued(120)
    chain_writing.write_ready()
    assert sweeps[:1] == [120], "its own is the last"
    assert ("settle", True) in asked
    assert ("settle",) not in asked
    finished(anvil, 120)


def test_guards_are_asked_once_in_a_turn(proxy: FaultProxy, anvil: Anvil) -> None:
    """And again by the next turn, which sees that the wallet is empty before it signs."""
    queued(20)
    chain_client().check_guards()
    before = proxy.counts["eth_getBalance"]
    chain_writing.write_ready()
    assert proxy.counts["eth_getBalance"] - before <= 2  # the sweep looks at the wallet once a minute
    assert Transaction.select().count() == 20
    queued_later(20, 3)
    anvil.rpc("anvil_setBalance", anvil.address, "0x1")
    chain_writing.write_ready()
    assert Transaction.select().count() == 20
    assert held_by() == InsufficientFunds.__name__


def test_what_is_signed_is_taken_off_the_balance(proxy: FaultProxy, anvil: Anvil) -> None:
    """Nothing goes out that the wallet can not pay, also of what was signed since it was asked."""
    queued(20)
    chain = chain_client()
    chain.check_guards()
    one_wei = chain.prepare_anchor(bytes(32), 0, chain.fees())
    anvil.rpc("anvil_setBalance", anvil.address, hex(6 * one_wei.gas_limit * one_wei.max_fee_wei))
    chain_writing.write_ready()
    assert 6 <= Transaction.select().count() < 20
    assert {row.answer.split(":")[0] for row in Transaction.select()} == {"accepted"}
    assert held_by() == InsufficientFunds.__name__
    anvil.rpc("anvil_setBalance", anvil.address, hex(10**18))
    settle_and_complete()  # it is reviewed
    chain_writing.write_ready()
    finished(anvil, 20)


def test_watched_blocks_are_not_read_again(proxy: FaultProxy, anvil: Anvil) -> None:
    """Forty are watched; a sweep reads those on top of them, and knows that they are where they were."""
    queued(40)
    chain_writing.write_ready()
    settle_and_complete()
    queued_later(40, 4)
    before = proxy.counts["eth_getBlockByNumber"]
    chain_writing.write_ready()
    settle_and_complete()
    assert proxy.counts["eth_getBlockByNumber"] - before < 40
    finished(anvil, 44)
    assert len(finality.watched(chain_client().chain_id)) == 44


def test_a_changed_node_is_asked_at_once(proxy: FaultProxy, anvil: Anvil) -> None:
    """What another one said of chain, role and wallet is not believed of this one."""
    chain, seen = chain_client(), Outlook()
    chain.check_guards()
    seen.fit(chain)
    asked = proxy.counts["eth_getBalance"]
    seen.fit(chain)
    assert proxy.counts["eth_getBalance"] == asked
    proxy.cut_reply("eth_syncing")
    chain.is_syncing()  # asked again on another connection
    seen.fit(chain)
    assert proxy.counts["eth_getBalance"] == asked + 1


def test_a_failed_guard_is_asked_again(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was believed before it failed is forgotten."""
    chain, seen = chain_client(), Outlook()
    seen.fit(chain)
    monkeypatch.setattr(outlook, "BELIEVED_SECONDS", 0.0)
    anvil.rpc("anvil_setBalance", anvil.address, "0x1")
    for _ in range(2):
        with pytest.raises(InsufficientFunds):
            seen.fit(chain)
        monkeypatch.setattr(outlook, "BELIEVED_SECONDS", 60.0)


def test_another_process_takes_the_room(proxy: FaultProxy, anvil: Anvil) -> None:
    """Slots are taken once for what was believed, and then no more."""
    anvil.stop_mining()
    queued(2 * ROOM)
    seen = Outlook()
    for _ in range(2):  # what a node says first is believed once
        assert chain_writing.write_next(1, outlook=seen)
    assert chain_writing.write_next()
    assert Transaction.select().count() == ROOM
    assert chain_writing.write_next(outlook=seen), "it is believed that there is room"
    assert not chain_writing.write_next(outlook=seen)
    assert Transaction.select().count() == ROOM


def test_somebody_else_uses_the_key(proxy: FaultProxy, anvil: Anvil) -> None:
    """More nonces are used than were given out: none of ours counts as mined for that."""
    chain, seen = chain_client(), Outlook()
    holding.check(chain)
    mined = chain.transaction_counts()[0] + 10
    anvil.rpc("anvil_setNonce", anvil.address, hex(mined))
    seen.look_at_nonces(chain, [mined - 1])
    assert (seen.used_below, seen.room()) == (mined, ROOM)
    seen.look_at_nonces(chain, [mined - 3, mined - 2])
    assert (seen.used_below, seen.room()) == (0, ROOM - 2)


def test_a_chain_that_mines_later_is_not_asked_again(
    proxy: FaultProxy, anvil: Anvil, sweeps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is used: four are in flight and no more, and the turn is over after a sweep."""
    anvil.stop_mining()
    queued(20)
    asked = proxy.counts["eth_getTransactionCount"]
    chain_writing.write_ready()
    assert [row.state for row in Transaction.select()] == [TransactionState.SENT] * ROOM
    assert anvil.pool_size == ROOM
    looks = 1 + len(pace.SOON_SECONDS)  # and once for the first free nonce
    assert proxy.counts["eth_getTransactionCount"] - asked <= 2 * (looks + 1 + len(sweeps))

"""Promise: nothing else fills a batch's nonce while its own may be mined, and a filler gets through."""

from __future__ import annotations

import time

import pytest

from pipeline import chain_writing
from pipeline.chain.client import ChainClient, chain_client
from pipeline.chain.fees import GWEI, Fees
from pipeline.ledger import nonces, transactions, under_way
from pipeline.models import Batch, BatchState, Incident, Transaction, TransactionState
from pipeline.settlement import healing, outcomes, settle, view
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete, write
from tests.truth import assert_truthful

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap is filled as soon as it is seen."""
    healing._gaps.clear()
    healing._lowest.clear()
    monkeypatch.setattr(healing, "GAP_SECONDS", 0.0)


@pytest.fixture
def given_up(proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> Transaction:
    """A nonce whose transaction was given up, as somebody else had used it, and is free again: a reorg."""
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    write(2)
    settle()
    first: Transaction = Transaction.select().order_by(Transaction.nonce).first()
    Transaction.update(lost_at=time.time()).where(Transaction.id == first.id).execute()
    nonces.write_again(first.batch_id, reason="NonceConflict")
    while chain_writing.write_next():
        pass
    anvil.rpc("anvil_dropTransaction", first.hash)
    return first


def of_nonce(nonce: int) -> list[Transaction]:
    """All that was signed for it, the oldest first."""
    return list(Transaction.select().where(Transaction.nonce == nonce).order_by(Transaction.id))


def until_confirmed(anvil: Anvil, count: int) -> None:
    """Blocks and sweeps, at most twelve."""
    for _ in range(12):
        anvil.mine()
        Transaction.update(sent_at=0).execute()
        settle_and_complete()
        while chain_writing.write_next():
            pass
    assert confirmed() == count


def test_a_head_that_fell_and_dearer_blocks(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node has an older state and refuses the stored bytes: nothing else takes their nonce."""
    snapshot = anvil.rpc("evm_snapshot")
    write(1)
    settle()
    anvil.mine(2)
    settle_and_complete()
    assert confirmed() == 1
    anchor = Transaction.get()
    anvil.rpc("evm_revert", snapshot)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(30 * GWEI))
    write(1, start=1)
    with monkeypatch.context() as patch:
        patch.setattr(ChainClient, "prepare_filler", lambda *_: pytest.fail("nothing is to be filled"))
        for _ in range(3):
            settle_and_complete()
    assert [row.id for row in of_nonce(anchor.nonce)] == [anchor.id]
    monkeypatch.setattr(view, "LOWER_SECONDS", 0.0)  # by now it is believed
    until_confirmed(anvil, 2)
    assert {row.batch_id for row in of_nonce(anchor.nonce)} == {anchor.batch_id}
    assert Incident.select().count() == 0
    assert_truthful(anvil, chain_settings())


def test_nothing_fills_the_nonce_of_a_live_anchor(proxy: FaultProxy, anvil: Anvil) -> None:
    """Whoever asks for it, and whatever he knows."""
    write(1)
    anchor = Transaction.get()
    filler = chain_client().prepare_filler(anchor.nonce, Fees(int(anchor.max_fee_wei) * 2, GWEI))
    given = (anchor.chain_id, anchor.signer, anchor.nonce, lambda: filler)
    assert nonces.fill(*given, known=[anchor.id]) is None
    Transaction.update(lost_at=time.time()).execute()
    assert nonces.fill(*given, known=[anchor.id]) is not None


def test_a_filler_in_the_place_of_an_anchor(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came there: it settles no batch, which is written again once that is believed."""
    write(1)
    anchor = Transaction.get()
    filler = chain_client().prepare_filler(anchor.nonce, Fees(int(anchor.max_fee_wei) * 2, GWEI))
    nonces.store(filler, chain_id=anchor.chain_id, signer=anchor.signer, nonce=anchor.nonce, batch_id=None)
    anvil.rpc("eth_sendRawTransaction", "0x" + filler.raw.hex())
    anvil.mine(2)
    settle_and_complete()
    settle_and_complete()
    assert confirmed() == 0
    assert Batch.get().state == BatchState.SUBMITTED, "a reorg may let the batch's own in"
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    settle_and_complete()
    assert Batch.get().state == BatchState.FULL
    until_confirmed(anvil, 1)
    assert Batch.get().block_number is not None
    assert len(Transaction.select().where(Transaction.batch == anchor.batch_id)) == 2
    assert_truthful(anvil, chain_settings())


def test_a_second_filler_is_made_dearer(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was mined, and its block is gone; blocks are dear, and then dearer still."""
    snapshot = anvil.rpc("evm_snapshot")
    chain = chain_client()
    write(1)
    first = Transaction.get()
    nonce = nonces.reserve(first.chain_id, first.signer, 0)
    filler = chain.prepare_filler(nonce, Fees(3 * GWEI, 1))
    assert nonces.fill(first.chain_id, first.signer, nonce, lambda: filler)
    anvil.rpc("eth_sendRawTransaction", "0x" + filler.raw.hex())
    anvil.mine(2)
    settle_and_complete()
    assert [row.state for row in of_nonce(nonce)] == [TransactionState.MINED]
    anvil.rpc("evm_revert", snapshot)
    monkeypatch.setattr(view, "LOWER_SECONDS", 0.0)
    anvil.rpc("eth_sendRawTransaction", first.raw_transaction)
    for _ in range(4):
        anvil.mine()
        settle_and_complete()
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
    write(1, start=1)
    settle_and_complete()
    for _ in range(16):
        anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
        anvil.mine()
        Transaction.update(sent_at=0).execute()
        settle_and_complete()
    assert len(of_nonce(nonce)) > 2
    until_confirmed(anvil, 2)


def test_nothing_is_settled_without_a_block(proxy: FaultProxy, anvil: Anvil) -> None:
    """The ledger itself refuses."""
    write(1)
    assert not transactions.settle(Batch.get().id)
    assert Batch.get().state == BatchState.SUBMITTED


def test_a_filler_is_made_dearer(given_up: Transaction, proxy: FaultProxy, anvil: Anvil) -> None:
    """Of a nonce for which something was signed and given up; what is behind it waits for no longer."""
    filler = chain_client().prepare_filler(given_up.nonce, Fees(int(given_up.max_fee_wei) * 2, GWEI))
    assert nonces.fill(
        given_up.chain_id, given_up.signer, given_up.nonce, lambda: filler, known=[given_up.id]
    )
    anvil.rpc("eth_sendRawTransaction", "0x" + filler.raw.hex())
    for _ in range(healing.STUCK_BLOCKS * 3):
        anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        anvil.mine()
        Transaction.update(sent_at=0).execute()
        settle()
    fees = [int(row.max_fee_wei) for row in of_nonce(given_up.nonce)]
    assert len(fees) > 2
    assert fees[2] * 8 >= fees[1] * 9
    until_confirmed(anvil, 2)
    assert TransactionState.MINED in {row.state for row in of_nonce(given_up.nonce)[1:]}
    assert_truthful(anvil, chain_settings())


def test_a_gap_whose_stored_bytes_are_too_cheap(
    given_up: Transaction, proxy: FaultProxy, anvil: Anvil
) -> None:
    """A dearer transfer of nothing fills it."""
    proxy.answer_error(
        "eth_sendRawTransaction",
        "max fee per gas less than block base fee",
        None,
        when=lambda p: p[0] == given_up.raw_transaction,
    )
    until_confirmed(anvil, 2)
    filler = Transaction.get(Transaction.batch.is_null())
    assert filler.nonce == given_up.nonce
    assert int(filler.max_fee_wei) * 8 >= int(given_up.max_fee_wei) * 9
    assert Incident.select().count() == 0
    assert_truthful(anvil, chain_settings())


def test_a_filler_and_the_one_that_was_given_up(
    given_up: Transaction, proxy: FaultProxy, anvil: Anvil
) -> None:
    """The latter is mined: nobody else has the key, and nothing waits for the filler."""
    chain = chain_client()
    filler = chain.prepare_filler(given_up.nonce, Fees(int(given_up.max_fee_wei) * 2, GWEI))
    assert nonces.fill(
        given_up.chain_id, given_up.signer, given_up.nonce, lambda: filler, known=[given_up.id]
    )
    proxy.answer_error(
        "eth_sendRawTransaction", "txpool is full", None, when=lambda p: p[0] == "0x" + filler.raw.hex()
    )
    anvil.rpc("eth_sendRawTransaction", given_up.raw_transaction)
    until_confirmed(anvil, 2)
    assert Incident.select().count() == 0
    assert under_way.in_flight(given_up.chain_id).count == 0

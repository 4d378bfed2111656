"""Promise: what a reorg takes away is pending again, and says so, until it is confirmed anew."""

from __future__ import annotations

import json

from pipeline.intake import WriteRequest
from pipeline.ledger import confirmation, finality, queueing, transactions, under_way
from pipeline.ledger.finality import Place
from pipeline.models import Batch, BatchState, Credential, State, Transaction, TransactionState, Write
from tests.ledger import ACCOUNT, MINED, Rows, confirmed, everything, purge_completed, settled, transaction_of


def watched_ids() -> list[int]:
    """The batches that are watched."""
    return [place.batch_id for place in finality.watched(ACCOUNT.chain_id)]


def place_of(rows: Rows) -> Place:
    """Where the ledger's tests have everything mined."""
    return Place(rows.batch_id, MINED.block_number, MINED.block_hash)


def test_watched_until_final(ledger: str) -> None:
    """From the settling on, and not for a moment longer than needed."""
    rows = settled()
    assert watched_ids() == [rows.batch_id]
    confirmation.confirm(rows.batch_id)
    assert watched_ids() == [rows.batch_id]
    finality.mark_final([rows.batch_id])
    assert watched_ids() == []
    assert [place.batch_id for place in finality.newest_final(ACCOUNT.chain_id, 5)] == [rows.batch_id]


def test_there_and_back(ledger: str) -> None:
    """Row, batch, transaction and the credential's own word go back; then all is confirmed anew."""
    rows = confirmed()
    write = Write.get_by_id(rows.write_id)
    assert finality.unconfirm(place_of(rows)) == [write.credential_id]
    assert finality.unconfirm(place_of(rows)) is None
    write = Write.get_by_id(rows.write_id)
    assert (write.state, write.finished_at, write.attempts) == (State.VERIFIED, None, 1)
    batch = Batch.get_by_id(rows.batch_id)
    assert (batch.state, batch.block_number, batch.confirmations) == (BatchState.SUBMITTED, None, 0)
    assert transaction_of(rows).state == TransactionState.SENT
    assert own_word(write) == {"blockchain_status": "pending"}
    [slot] = under_way.unsettled(ACCOUNT.chain_id)
    assert slot.hashes == [transaction_of(rows).hash]
    settle_again(rows)
    assert own_word(write)["blockchain_status"] == "confirmed"
    assert own_word(write)["blockchain_block_number"] == 8


def own_word(write: Write) -> dict[str, object]:
    """What the credential's metadata say of its write."""
    found = json.loads(Credential.get_by_id(write.credential_id).metadata)
    return {key: value for key, value in found.items() if value is not None}


def settle_again(rows: Rows) -> None:
    """The same transaction in the next block."""
    mined = MINED.__class__(8, "0x08", 2.5, MINED.gas_used, MINED.gas_price_wei, 1)
    transactions.record_mined(rows.transaction_id, mined)
    transactions.settle(rows.batch_id)
    confirmation.confirm(rows.batch_id)


def test_a_purged_one_counts_again(ledger: str) -> None:
    """A tombstone that is pending again is in no list of completed ones, but of active ones."""
    rows = confirmed()
    purge_completed(finished_before=2**40)
    assert finality.unconfirm(place_of(rows))
    assert Write.get_by_id(rows.write_id).purged_at is None


def test_something_newer_is_pending(ledger: str) -> None:
    """The older write stays where it is: a credential has one pending write; its root goes out again."""
    rows = confirmed()
    write = Write.get_by_id(rows.write_id)
    queueing.queue([WriteRequest.of(write.credential_id, "ab" * 32)])
    assert finality.unconfirm(place_of(rows)) == []
    assert Write.get_by_id(rows.write_id).state == State.CONFIRMED
    assert Batch.get_by_id(rows.batch_id).state == BatchState.SUBMITTED
    settle_again(rows)
    assert Batch.get_by_id(rows.batch_id).state == BatchState.CONFIRMED


def test_anchored_by_a_transaction_that_can_not_go_out_again(ledger: str) -> None:
    """Then the batch waits for a new nonce."""
    rows = confirmed()
    Transaction.update(state=TransactionState.REVERTED).execute()
    assert finality.unconfirm(place_of(rows))
    assert Batch.get_by_id(rows.batch_id).state == BatchState.FULL
    assert Write.get_by_id(rows.write_id).state == State.VERIFIED


def test_nothing_else_is_unconfirmed(ledger: str) -> None:
    """A batch that waits for the chain has nothing to be taken away."""
    rows = confirmed()
    finality.unconfirm(place_of(rows))
    before = everything()
    assert finality.unconfirm(place_of(rows)) is None
    finality.mark_final([rows.batch_id])
    assert everything() == before


def test_in_another_block_by_now(ledger: str) -> None:
    """A sweep that took too long has seen a block that counts no more."""
    rows = confirmed()
    before = everything()
    assert finality.unconfirm(Place(rows.batch_id, MINED.block_number, "0x77")) is None
    assert everything() == before

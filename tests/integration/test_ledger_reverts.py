"""Promise: what was signed in vain leaves nothing behind, and costs its members nothing."""

from __future__ import annotations

import pytest

from pipeline.chain.transaction import PreparedTransaction
from pipeline.errors import NodeUnreachable, TransactionReverted
from pipeline.ledger import batches, nonces, transactions, under_way
from pipeline.ledger.batches import Account
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write
from tests.ledger import ACCOUNT, MINED, everything, sign, verified, written


def replaced() -> tuple[int, int]:
    """A batch whose transaction was replaced; the ids of batch and replacement."""
    rows = written()
    [slot] = under_way.unsettled(ACCOUNT.chain_id)
    dearer = PreparedTransaction(b"dearer", "0x" + "de" * 32, 0, 60_000, 2 * 10**9, 2)
    stored = nonces.replace(slot, lambda: dearer)
    assert stored is not None
    return rows.batch_id, stored.id


def in_flight() -> int:
    """How many nonces are under way."""
    return under_way.in_flight(ACCOUNT.chain_id).count


def test_what_shares_the_nonce_is_no_longer_in_flight(ledger: str) -> None:
    """Whether the batch fails for good."""
    _, replacement_id = replaced()
    assert transactions.revert(replacement_id, TransactionReverted("out of gas"))
    assert in_flight() == 0
    assert under_way.unsettled(ACCOUNT.chain_id) == []


def test_nor_when_the_batch_is_written_again(ledger: str) -> None:
    """Only the new nonce waits for the chain then, and none looks as if somebody else had used it."""
    batch_id, replacement_id = replaced()
    transactions.revert_and_write_again(replacement_id, batch_id, reason="NotAnIssuer")
    assert batches.submit(batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert [slot.nonce for slot in under_way.unsettled(ACCOUNT.chain_id)] == [1]
    assert in_flight() == 1


def test_both_or_neither(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in the middle leaves everything as it was."""
    batch_id, replacement_id = replaced()
    before = everything()

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nonces, "write_again", die)
    with pytest.raises(KeyboardInterrupt):
        transactions.revert_and_write_again(replacement_id, batch_id, reason="NotAnIssuer")
    assert everything() == before


def test_written_again_pays_no_attempts(ledger: str) -> None:
    """However long the node is away then: what was signed for never fails for that."""
    rows = written()
    transactions.revert_and_write_again(rows.transaction_id, rows.batch_id, reason="NotAnIssuer")
    for _ in range(5):
        Batch.update(due_at=0).execute()
        assert batches.begin_attempt(rows.batch_id)
        failed = batches.fail_attempt(
            rows.batch_id, NodeUnreachable("away"), stage="chain_write", max_attempts=3, min_backoff_ms=1
        )
        assert (failed.retry_in_ms, failed.cause_id) == (1, None)
    write = Write.get_by_id(rows.write_id)
    assert (write.state, write.attempts) == (State.VERIFIED, 1)


def test_written_again_has_the_same_root(ledger: str) -> None:
    """Also where a member is confirmed already, for something newer of its credential is pending."""
    rows = written()
    root = Batch.get_by_id(rows.batch_id).merkle_root
    transactions.revert_and_write_again(rows.transaction_id, rows.batch_id, reason="reorg")
    Write.update(state=State.CONFIRMED).execute()
    assert batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert Batch.get_by_id(rows.batch_id).merkle_root == root


def test_a_lost_nonce_does_not_take_a_live_one_along(ledger: str) -> None:
    """The batch has a transaction at another nonce by then: that one goes on."""
    rows = written()
    [lost] = under_way.unsettled(ACCOUNT.chain_id)
    Transaction.create(
        batch=rows.batch_id,
        chain_id=ACCOUNT.chain_id,
        signer=ACCOUNT.signer,
        nonce=1,
        hash="0x" + "ab" * 32,
        raw_transaction="0x02",
        state=TransactionState.SENT,
        gas_limit=1,
        max_fee_wei="1",
        tip_wei="1",
    )
    assert nonces.lose(lost)
    assert Batch.get_by_id(rows.batch_id).state == BatchState.SUBMITTED


def test_an_earlier_key_does_not_fill_the_limit(ledger: str) -> None:
    """What it has in flight is its own."""
    written()
    other = Account(ACCOUNT.chain_id, "0x" + "09" * 20, ACCOUNT.contract_address)
    rows = verified()
    assert batches.next_ready(1, ACCOUNT.chain_id, ACCOUNT.signer) is None
    assert batches.next_ready(1, ACCOUNT.chain_id, other.signer) is not None
    signed = PreparedTransaction(b"other", "0x" + "0f" * 32, 0, 60_000, 10**9, 1)
    assert batches.submit(rows.batch_id, other, nonce_floor=0, sign=lambda *_: signed, max_in_flight=1)


def test_anchored_by_another_transaction(ledger: str) -> None:
    """The batch names that one; the one in vain and its nonce are settled in the same step."""
    batch_id, replacement_id = replaced()
    hash_ = "0x" + "aa" * 32
    assert transactions.settle_anchored(batch_id, hash_, MINED, reverted_id=replacement_id)
    assert not transactions.settle_anchored(batch_id, hash_, MINED, reverted_id=replacement_id)
    assert Batch.get_by_id(batch_id).state == BatchState.SETTLED
    assert Batch.get_by_id(batch_id).transaction_hash == "0x" + "aa" * 32
    assert Transaction.get_by_id(replacement_id).state == TransactionState.REVERTED
    assert in_flight() == 0

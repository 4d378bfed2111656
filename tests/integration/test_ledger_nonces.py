"""Promise: a nonce is used for one piece of work, and what was signed for it is never forgotten."""

from __future__ import annotations

import time

from pipeline.chain.transaction import PreparedTransaction
from pipeline.ledger import batches, nonces, transactions, under_way
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write
from tests.ledger import ACCOUNT, MINED, everything, sign, transaction_of, verified, written
from tests.racing import in_threads


def dearer() -> PreparedTransaction:
    """The same work for a higher fee."""
    return PreparedTransaction(b"dearer", "0x" + "de" * 32, 0, 60_000, 2 * 10**9, 2)


def only_slot() -> under_way.Slot:
    """The one nonce that waits."""
    [slot] = under_way.unsettled(ACCOUNT.chain_id)
    return slot


def test_a_replacement_has_the_same_nonce(ledger: str) -> None:
    """Both are kept under one nonce, the newer is the current one, and they count as one in flight."""
    rows = written()
    stored = nonces.replace(only_slot(), dearer)
    assert stored is not None
    slot = only_slot()
    assert slot.hashes == [Transaction.get_by_id(rows.transaction_id).hash, stored.hash]
    assert slot.current.id == stored.id
    assert Batch.get_by_id(rows.batch_id).transaction_hash == stored.hash
    assert under_way.in_flight(ACCOUNT.chain_id).count == 1
    assert under_way.in_flight(ACCOUNT.chain_id, ACCOUNT.signer).reserved_wei == 60_000 * 2 * 10**9


def test_replaced_once_by_many(ledger: str) -> None:
    """Of ten sweeps that want to replace what they have seen, one does."""
    written()
    slot = only_slot()
    outcomes = in_threads(10, lambda _: nonces.replace(slot, dearer) is not None)
    assert sorted(outcomes) == [False] * 9 + [True]
    assert Transaction.select().count() == 2


def test_nothing_replaces_what_is_settled(ledger: str) -> None:
    """The batch went on meanwhile: not a byte is signed."""
    rows = written()
    slot = only_slot()
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.settle(rows.batch_id)
    before = everything()
    assert nonces.replace(slot, dearer) is None
    assert everything() == before


def test_the_original_is_mined_instead(ledger: str) -> None:
    """Then nothing is in flight, and the batch names the original."""
    rows = written()
    nonces.replace(only_slot(), dearer)
    transactions.record_mined(rows.transaction_id, MINED)
    assert under_way.in_flight(ACCOUNT.chain_id).count == 0
    assert Batch.get_by_id(rows.batch_id).transaction_hash == Transaction.get_by_id(rows.transaction_id).hash
    mined = only_slot().mined
    assert mined is not None
    assert mined.id == rows.transaction_id


def test_a_lost_nonce_frees_the_batch(ledger: str) -> None:
    """The same members wait for a new nonce, without an attempt more; the old one waits for nothing."""
    rows = written()
    root = Batch.get_by_id(rows.batch_id).merkle_root
    slot = only_slot()
    assert nonces.lose(slot)
    assert not nonces.lose(slot)
    write = Write.get_by_id(rows.write_id)
    assert (write.state, write.attempts) == (State.VERIFIED, 1)
    assert under_way.unsettled(ACCOUNT.chain_id) == []
    assert under_way.in_flight(ACCOUNT.chain_id).count == 0
    ready = batches.next_ready()
    assert ready is not None
    assert ready.id == rows.batch_id
    again = batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert again is not None
    assert (again.nonce, Batch.get_by_id(rows.batch_id).merkle_root) == (1, root)


def test_missing_is_counted_from_the_first_time(ledger: str) -> None:
    """With the head of that time; and begins anew once the nonce turns out to be free."""
    written()
    assert nonces.mark_missing(only_slot(), 7) == (0, 7)
    Transaction.update(missing_since=time.time() - 30).execute()
    seconds, head = nonces.mark_missing(only_slot(), 9)
    assert 29 < seconds < 40
    assert head == 7
    nonces.mark_found(only_slot())
    assert nonces.mark_missing(only_slot(), 9) == (0, 9)


def test_nonces_that_the_ledger_does_not_keep(ledger: str) -> None:
    """They are taken under the same lock, and no batch gets one of them."""
    assert nonces.next_nonce(ACCOUNT.chain_id, ACCOUNT.signer) is None
    assert nonces.reserve(ACCOUNT.chain_id, ACCOUNT.signer, 5) == 5
    assert nonces.reserve(ACCOUNT.chain_id, ACCOUNT.signer, 5) == 6
    assert nonces.next_nonce(ACCOUNT.chain_id, ACCOUNT.signer) == 7
    assert transaction_of(written()).nonce == 7
    assert sorted(in_threads(8, lambda _: nonces.reserve(ACCOUNT.chain_id, ACCOUNT.signer, 0))) == [
        *range(8, 16)
    ]


def test_a_gap_is_filled_once(ledger: str) -> None:
    """A recorded self-transfer that belongs to no batch; never where something was signed already."""
    filler = nonces.fill(ACCOUNT.chain_id, ACCOUNT.signer, 0, dearer)
    assert filler is not None
    assert nonces.fill(ACCOUNT.chain_id, ACCOUNT.signer, 0, lambda: sign(b"", 0)) is None
    slot = only_slot()
    assert (slot.batch, slot.current.id) == (None, filler.id)
    transactions.record_mined(filler.id, MINED)
    assert Transaction.get_by_id(filler.id).state == TransactionState.MINED
    assert under_way.unsettled(ACCOUNT.chain_id) == []


def test_slots_come_in_the_order_of_nonces(ledger: str) -> None:
    """So do the bytes that no node has yet."""
    last = [written() for _ in range(3)][-1]
    assert [slot.nonce for slot in under_way.unsettled(ACCOUNT.chain_id)] == [0, 1, 2]
    first = Transaction.get(nonce=0)
    transactions.record_answer(first.id, "accepted", taken=True)
    left = nonces.unsent_before(Transaction.get_by_id(last.transaction_id))
    assert [row.nonce for row in left] == [1]


def test_never_more_in_flight_than_allowed(ledger: str) -> None:
    """Twenty at once, five may: five are signed, and the other batches stay ready."""
    ids = [verified().batch_id for _ in range(20)]
    outcomes = in_threads(
        20,
        lambda number: (
            batches.submit(ids[number], ACCOUNT, nonce_floor=0, sign=sign, max_in_flight=5) is not None
        ),
    )
    assert sum(outcomes) == 5
    assert Batch.select().where(Batch.state == BatchState.SUBMITTED).count() == 5
    assert under_way.in_flight(ACCOUNT.chain_id, ACCOUNT.signer).count == 5

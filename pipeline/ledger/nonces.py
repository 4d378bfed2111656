"""The nonces of a signer: given out under its row's lock, each with all that was ever signed for it.

A nonce belongs to one batch, or to a self-transfer that fills a gap. What replaces a transaction
takes the same nonce; a batch gets another one only once none of its own can be mined any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pipeline.database import transaction
from pipeline.ledger import journal, steps, tallies
from pipeline.ledger.bulk import insert_each
from pipeline.ledger.fixed import Fixed
from pipeline.ledger.sql import locked, rows, still
from pipeline.ledger.under_way import Slot
from pipeline.models import Batch, BatchState, Signer, State, Transaction, TransactionState, Write


class Signed(Protocol):
    """A signed transaction: ``raw`` bytes, ``hash`` with 0x, fees in wei."""

    @property
    def raw(self) -> bytes: ...
    @property
    def hash(self) -> str: ...
    @property
    def gas_limit(self) -> int: ...
    @property
    def max_fee_wei(self) -> int: ...
    @property
    def tip_wei(self) -> int: ...


def lock_signer(chain_id: int, address: str, first_nonce: int) -> Signer:
    """The signer's row, locked until the transaction ends; made where it is missing."""
    found = _lock_signer(chain_id, address).fetchone()
    if found is None:
        row = {"chain_id": chain_id, "address": address, "next_nonce": first_nonce}
        Signer.insert(row).on_conflict_ignore().execute()
        found = _lock_signer(chain_id, address).fetchone()
    return Signer(id=found[0], chain_id=chain_id, address=address, next_nonce=found[1])


_lock_signer = Fixed(
    lambda chain_id, address: locked(
        Signer.select(Signer.id, Signer.next_nonce).where(
            Signer.chain_id == chain_id, Signer.address == address
        )
    )
)


def give_out(signer: Signer, next_nonce: int) -> None:
    """All nonces below that are given out; the signer's row is locked."""
    _give_out(signer.id, next_nonce)


_give_out = Fixed(lambda id_, next_nonce: Signer.update(next_nonce=next_nonce).where(Signer.id == id_))


@transaction
def reserve(chain_id: int, signer: str, floor: int) -> int:
    """Take a nonce, not below ``floor``, for a transaction that the ledger does not keep.

    One that is never sent is a gap, which `settle` fills.
    """
    row = lock_signer(chain_id, signer, floor)
    nonce = max(row.next_nonce, floor)
    give_out(row, nonce + 1)
    return int(nonce)


def next_nonce(chain_id: int, signer: str) -> int | None:
    """The one that is given out next; None before the first."""
    mine = (Signer.chain_id == chain_id) & (Signer.address == signer)
    row = Signer.select(Signer.next_nonce).where(mine).tuples().first()
    return row[0] if row else None


def store(signed: Signed, *, chain_id: int, signer: str, nonce: int, batch_id: int | None) -> Transaction:
    """Store what is about to be sent."""
    [stored] = store_many([signed], [batch_id], chain_id=chain_id, signer=signer, first_nonce=nonce)
    return stored


def store_many(
    signed: Sequence[Signed],
    batch_ids: Sequence[int | None],
    *,
    chain_id: int,
    signer: str,
    first_nonce: int,
) -> list[Transaction]:
    """Store what is about to be sent: a transaction for each batch, at one nonce after the other."""
    own: dict[Any, list[Any]] = {
        Transaction.batch: list(batch_ids),
        Transaction.nonce: list(range(first_nonce, first_nonce + len(signed))),
        Transaction.hash: [one.hash for one in signed],
        Transaction.raw_transaction: ["0x" + one.raw.hex() for one in signed],
        Transaction.gas_limit: [one.gas_limit for one in signed],
        Transaction.max_fee_wei: [str(one.max_fee_wei) for one in signed],
        Transaction.tip_wei: [str(one.tip_wei) for one in signed],
    }
    common: dict[Any, Any] = {
        Transaction.chain_id: chain_id,
        Transaction.signer: signer,
        Transaction.state: TransactionState.SIGNED,
        Transaction.created_at: time.time(),
    }
    ids = insert_each(Transaction, own, common)
    named = {field.name: value for field, value in common.items()}
    return [
        Transaction(id=id_, **named, **dict(zip((field.name for field in own), row, strict=True)))
        for id_, row in zip(ids, zip(*own.values(), strict=True), strict=True)
    ]


@transaction
def replace(slot: Slot, sign: Callable[[], Signed]) -> Transaction | None:
    """Store another transaction for the slot's nonce, as ``sign()`` makes it without any I/O.

    None when somebody else has replaced it, or it needs none any more.
    """
    lock_signer(slot.chain_id, slot.signer, slot.nonce)
    stored_before = _of_nonce(slot.chain_id, slot.signer, slot.nonce)
    if [row.id for row in stored_before if _is_in_a_slot(row)] != [row.id for row in slot.transactions]:
        return None
    if slot.batch is not None and _lock_submitted(slot.batch.id) is None:
        return None
    stored = store(
        sign(),
        chain_id=slot.chain_id,
        signer=slot.signer,
        nonce=slot.nonce,
        batch_id=slot.batch.id if slot.batch else None,
    )
    if slot.batch is not None:
        Batch.update(transaction_hash=stored.hash).where(Batch.id == slot.batch.id).execute()
    tallies.replaced()
    return stored


def _is_in_a_slot(row: Transaction) -> bool:
    """Whether `under_way.unsettled` has it: a filler that is mined is not looked at again."""
    return row.is_live and (row.batch_id is not None or row.state in TransactionState.UNMINED)


@transaction
def fill(
    chain_id: int, signer: str, nonce: int, sign: Callable[[], Signed], *, known: Sequence[int] = ()
) -> Transaction | None:
    """Store a self-transfer for a nonce for which nothing was signed but the ``known``; else None.

    None also where one of those can still be mined for a batch: the nonce is that one's.
    """
    lock_signer(chain_id, signer, nonce)
    stored_before = _of_nonce(chain_id, signer, nonce)
    if [row.id for row in stored_before] != list(known) or any(row.is_live_anchor for row in stored_before):
        return None
    tallies.gap_filled()
    return store(sign(), chain_id=chain_id, signer=signer, nonce=nonce, batch_id=None)


def stored_for(chain_id: int, signer: str, nonce: int) -> list[Transaction]:
    """All that was ever signed for a nonce, the oldest first."""
    return _of_nonce(chain_id, signer, nonce)


def hashes_for(batch_id: int) -> list[str]:
    """Of all that was ever signed for a batch, under whichever nonce."""
    return [row[0] for row in rows(Transaction.select(Transaction.hash).where(Transaction.batch == batch_id))]


def reverted_count(batch_id: int) -> int:
    """How many of a batch's transactions were mined in vain."""
    mine = (Transaction.batch == batch_id) & (Transaction.state == TransactionState.REVERTED)
    return int(Transaction.select().where(mine).count())


def _of_nonce(chain_id: int, signer: str, nonce: int) -> list[Transaction]:
    query = Transaction.select().where(
        Transaction.chain_id == chain_id, Transaction.signer == signer, Transaction.nonce == nonce
    )
    return list(query.order_by(Transaction.id))


def unsent_before(stored: Transaction) -> list[Transaction]:
    """The transactions of its signer that no node has, before this one, in the order of their nonces."""
    ids = [row[0] for row in _unsent_before(stored.chain_id, stored.signer, stored.nonce).fetchall()]
    if not ids:
        return []
    return list(
        Transaction.select()
        .where(Transaction.id.in_(ids), Transaction.state == TransactionState.SIGNED)
        .order_by(Transaction.nonce, Transaction.id)
    )


_unsent_before = Fixed(
    lambda chain_id, signer, nonce: Transaction.select(Transaction.id).where(
        Transaction.chain_id == chain_id,
        Transaction.signer == signer,
        Transaction.nonce < nonce,
        Transaction.state == TransactionState.SIGNED,
        Transaction.lost_at.is_null(),
    )
)


@transaction
def mark_missing(slot: Slot, head: int) -> tuple[float, int]:
    """Note that the chain has used the nonce up to block ``head``, and no receipt is found.

    Returns for how many seconds that has been so, and up to which block it was when it began.
    """
    now = time.time()
    mine = Transaction.id.in_([row.id for row in slot.transactions])
    Transaction.update(missing_since=now, missing_block=head).where(
        mine, Transaction.missing_since.is_null()
    ).execute()
    since = min((row.missing_since or now, row.missing_block or head) for row in slot.transactions)
    return now - since[0], since[1]


@transaction
def mark_found(slot: Slot) -> None:
    """Take that back: the nonce is free, or a receipt is there."""
    mine = Transaction.id.in_([row.id for row in slot.transactions])
    Transaction.update(missing_since=None, missing_block=None).where(
        mine, Transaction.missing_since.is_null(False)
    ).execute()


@transaction
def lose(slot: Slot) -> bool:
    """Another transaction has final use of the nonce: the batch waits for a new one.

    Its members pay no attempt. False when somebody else has recorded it.
    """
    lost = (
        Transaction.update(lost_at=time.time())
        .where(
            Transaction.id.in_([row.id for row in slot.transactions]),
            Transaction.lost_at.is_null(),
            Transaction.state.in_(TransactionState.UNMINED),
        )
        .execute()
    )
    if lost and slot.batch is not None and not _is_live(slot.batch.id):
        write_again(slot.batch.id, reason="NonceConflict")
    return bool(lost)


def _is_live(batch_id: int) -> bool:
    """Whether a transaction of the batch can still be mined, or is."""
    live = Transaction.lost_at.is_null() & (Transaction.state != TransactionState.REVERTED)
    return bool(Transaction.select().where(Transaction.batch == batch_id, live).exists())


@transaction
def write_again(batch_id: int, *, reason: str) -> bool:
    """submitted → full: nothing that was signed for the batch can be mined; the same root goes out anew."""
    if _lock_submitted(batch_id) is None:
        return False
    now = time.time()
    Batch.update(
        state=BatchState.FULL,
        reason=reason,
        due_at=now,
        sent_at=now,
        submitted_at=None,
        transaction_hash=None,
        block_number=None,
        block_hash=None,
        block_time=None,
        confirmations=0,
    ).where(Batch.id == batch_id).execute()
    Write.update(state=State.VERIFIED, updated_at=now).where(
        Write.batch == batch_id, still(Write.state, *State.IN_A_BATCH)
    ).execute()
    journal.note(journal.WRITTEN_AGAIN, batch_id=batch_id, detail=reason)
    steps.tell("unwritten", batch_id, reason=reason)
    return True


def _lock_submitted(batch_id: int) -> Batch | None:
    query = Batch.select().where(Batch.id == batch_id, Batch.state == BatchState.SUBMITTED)
    batch: Batch | None = locked(query).first()
    return batch

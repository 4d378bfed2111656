"""What was signed, what the node said of it, and where it was mined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.database import transaction
from pipeline.errors import TransactionReverted
from pipeline.ledger import dead_letters, nonces, steps, tallies
from pipeline.ledger.sql import locked, rows
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction was mined; ``gas_price_wei`` is the effective one."""

    block_number: int
    block_hash: str
    block_time: float
    gas_used: int
    gas_price_wei: int
    confirmations: int


@transaction
def record_answer(transaction_id: int, answer: str, *, taken: bool) -> None:
    """Note what the node answered to a send; ``taken``: it is in the node's pool, or in a block."""
    state = {"state": TransactionState.SENT} if taken else {}
    Transaction.update(answer=answer, sent_at=time.time(), **state).where(
        Transaction.id == transaction_id, Transaction.state.in_(TransactionState.UNMINED)
    ).execute()


@transaction
def record_first_sight(transaction_ids: Sequence[int], head: int) -> None:
    """Note the head from which on the blocks are counted that go by without these."""
    Transaction.update(sent_block=head).where(
        Transaction.id.in_(list(transaction_ids)), Transaction.sent_block.is_null()
    ).execute()


@transaction
def record_mined(transaction_id: int, mined: Mined) -> None:
    """Note the block of a transaction with status 1; its batch waits on for confirmations."""
    live = (Transaction.id == transaction_id) & (Transaction.state != TransactionState.REVERTED)
    row: Transaction | None = locked(Transaction.select().where(live)).first()
    if row is None:
        return
    Transaction.update(
        state=TransactionState.MINED,
        block_number=mined.block_number,
        block_hash=mined.block_hash,
        missing_since=None,
    ).where(live).execute()
    _retire_siblings(row)
    if row.batch_id is not None and (row.state, row.block_hash) != (TransactionState.MINED, mined.block_hash):
        number = mined.block_number
        steps.tell("mined", row.batch_id, transaction_hash=row.hash, block_number=number)
    Batch.update(
        transaction_hash=row.hash,
        block_number=mined.block_number,
        block_hash=mined.block_hash,
        block_time=mined.block_time,
        gas_used=mined.gas_used,
        gas_price_wei=str(mined.gas_price_wei),
        confirmations=mined.confirmations,
    ).where(Batch.id == row.batch_id, Batch.state == BatchState.SUBMITTED).execute()


@transaction
def record_unmined(transaction_id: int, block_hash: str) -> None:
    """A reorg took that block away: the transaction waits for a block again, and goes out at once.

    Nothing happens when it was seen in another block meanwhile.
    """
    moved = list(
        Transaction.update(
            state=TransactionState.SENT, block_number=None, block_hash=None, sent_at=0, sent_block=None
        )
        .where(
            Transaction.id == transaction_id,
            Transaction.state == TransactionState.MINED,
            Transaction.block_hash == block_hash,
        )
        .returning(Transaction)
    )
    if moved:
        tallies.reorg(len(moved))
    for row in moved:
        Transaction.update(lost_at=None).where(_shares_nonce(row)).execute()
        if row.batch_id is not None:
            steps.tell("unmined", row.batch_id, transaction_hash=row.hash, reason="reorg")
        Batch.update(block_number=None, block_hash=None, block_time=None, confirmations=0).where(
            Batch.id == row.batch_id, Batch.state == BatchState.SUBMITTED
        ).execute()


def _retire_siblings(row: Transaction) -> None:
    """What shares the nonce can not be mined as long as this one is."""
    Transaction.update(lost_at=time.time()).where(
        _shares_nonce(row), Transaction.lost_at.is_null(), Transaction.state.in_(TransactionState.UNMINED)
    ).execute()


def _shares_nonce(row: Transaction) -> Any:
    return (
        (Transaction.chain_id == row.chain_id)
        & (Transaction.signer == row.signer)
        & (Transaction.nonce == row.nonce)
        & (Transaction.id != row.id)
    )


@transaction
def settle_anchored(batch_id: int, hash_: str, mined: Mined, *, reverted_id: int) -> bool:
    """submitted → settled through that transaction, when another was in vain: both, or neither.

    Nothing waits for a block any more, so that no later sweep would look at the batch. False when
    somebody else did it.
    """
    record_reverted(reverted_id)
    Batch.update(
        transaction_hash=hash_,
        block_number=mined.block_number,
        block_hash=mined.block_hash,
        block_time=mined.block_time,
        gas_used=mined.gas_used,
        gas_price_wei=str(mined.gas_price_wei),
        confirmations=mined.confirmations,
    ).where(Batch.id == batch_id, Batch.state == BatchState.SUBMITTED).execute()
    return settle(batch_id)


@transaction
def settle(batch_id: int) -> bool:
    """submitted → settled: deep enough to be confirmed. False when somebody else did it."""
    settled = rows(
        Batch.update(state=BatchState.SETTLED, sent_at=time.time())
        .where(Batch.id == batch_id, Batch.state == BatchState.SUBMITTED)
        .returning(Batch.size, Batch.submitted_at, Batch.gas_used, Batch.gas_price_wei)
    )
    for size, submitted_at, gas_used, gas_price_wei in settled:
        tallies.batch_settled(size, submitted_at)
        if gas_used is not None:
            tallies.gas(gas_used, int(gas_price_wei))
    return bool(settled)


@transaction
def record_reverted(transaction_id: int) -> None:
    """Note that it was mined with status 0: its nonce is used up, in vain."""
    row: Transaction = locked(Transaction.select().where(Transaction.id == transaction_id)).get()
    Transaction.update(state=TransactionState.REVERTED).where(Transaction.id == transaction_id).execute()
    _retire_siblings(row)


def is_reverted(transaction_id: int) -> bool:
    """Whether that is noted."""
    mine = (Transaction.id == transaction_id) & (Transaction.state == TransactionState.REVERTED)
    return bool(Transaction.select().where(mine).exists())


@transaction
def revert_and_write_again(transaction_id: int, batch_id: int, *, reason: str) -> None:
    """It was mined in vain, and the same root goes out anew: both, or neither."""
    record_reverted(transaction_id)
    nonces.write_again(batch_id, reason=reason)


@transaction
def revert(transaction_id: int, error: TransactionReverted) -> str | None:
    """A receipt of status 0: nothing of the batch is on the chain, nor will be. Returns the cause."""
    row: Transaction = locked(Transaction.select().where(Transaction.id == transaction_id)).get()
    failed = (
        Batch.update(state=BatchState.FAILED, reason=error.code)
        .where(Batch.id == row.batch_id, Batch.state == BatchState.SUBMITTED)
        .execute()
    )
    if not failed:
        return None
    record_reverted(transaction_id)
    members = _members(row.batch_id)
    return dead_letters.bury(members, error, state=State.WRITTEN, stage="settle", batch_id=row.batch_id)


def _members(batch_id: int) -> Sequence[int]:
    query = Write.select(Write.id).where(Write.batch == batch_id, Write.state == State.WRITTEN)
    return [row[0] for row in rows(query)]

"""What was signed, what the node said of it, and where it was mined."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee as pw

from pipeline.database import statement, transaction
from pipeline.errors import TransactionReverted
from pipeline.ledger import dead_letters, nonces, steps, tallies
from pipeline.ledger.bulk import update_each
from pipeline.ledger.sql import among, locked, rows, still
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said to a send; ``taken``: it is in the node's pool, or in a block."""

    transaction_id: int
    text: str
    taken: bool


def record_answer(transaction_id: int, answer: str, *, taken: bool) -> None:
    """`record_answers` of one."""
    record_answers([Answer(transaction_id, answer, taken)])


def record_answers(answers: Sequence[Answer]) -> None:
    """Note what the node answered to sends: those that were taken by themselves, and so the others."""
    now = time.time()
    for taken, state in ((True, {"state": TransactionState.SENT}), (False, {})):
        mine = [answer for answer in answers if answer.taken is taken]
        if mine:
            _record_answers(mine, {"sent_at": now, **state})


@statement
def _record_answers(answers: Sequence[Answer], common: Mapping[str, Any]) -> None:
    update_each(
        Transaction,
        [answer.transaction_id for answer in answers],
        {Transaction.answer: [answer.text for answer in answers]},
        Transaction.state.in_(TransactionState.UNMINED),
        common=common,
    )


@transaction
def record_first_sight(transaction_ids: Sequence[int], head: int) -> None:
    """Note the head from which on the blocks are counted that go by without these."""
    Transaction.update(sent_block=head).where(
        Transaction.id.in_(list(transaction_ids)), Transaction.sent_block.is_null()
    ).execute()


def record_mined(transaction_id: int, mined: Mined) -> None:
    """`record_mined_many` of one."""
    record_mined_many({transaction_id: mined})


@transaction
def record_mined_and_settle(found: Mapping[int, Mined], deep: Sequence[int]) -> list[Settled]:
    """`record_mined_many`, and `settle_many` of the batches that are ``deep`` enough: both, or neither."""
    _record_mined(found)
    return _settle(deep)


@transaction
def record_mined_many(found: Mapping[int, Mined]) -> None:
    """Note the blocks of transactions with status 1; their batches wait on for confirmations."""
    _record_mined(found)


def _record_mined(found: Mapping[int, Mined]) -> None:
    live = among(Transaction.id, [*found]) & (Transaction.state != TransactionState.REVERTED)
    columns = (Transaction.id, Transaction.batch, Transaction.hash, Transaction.state, Transaction.block_hash)
    query = Transaction.select(*columns).where(live).order_by(Transaction.id)
    there = [_Seen(*row) for row in rows(locked(query))]
    new = [seen for seen in there if (seen.state, seen.block_hash) != _mined_in(found[seen.id])]
    update_each(
        Transaction,
        [seen.id for seen in new],
        {
            Transaction.block_number: [found[seen.id].block_number for seen in new],
            Transaction.block_hash: [found[seen.id].block_hash for seen in new],
        },
        common={"state": TransactionState.MINED, "missing_since": None},
    )
    _retire_siblings([seen.id for seen in there])
    told = {seen.batch_id: (seen, found[seen.id].block_number) for seen in new if seen.batch_id is not None}
    steps.tell_each(
        "mined",
        {
            batch_id: {"transaction_hash": seen.hash, "block_number": number}
            for batch_id, (seen, number) in told.items()
        },
    )
    _place_batches({seen.batch_id: (seen.hash, found[seen.id]) for seen in there if seen.batch_id})


@dataclass(frozen=True, slots=True)
class _Seen:
    id: int
    batch_id: int | None
    hash: str
    state: str
    block_hash: str | None


def _mined_in(mined: Mined) -> tuple[str, str]:
    return TransactionState.MINED, mined.block_hash


def _place_batches(places: Mapping[int, tuple[str, Mined]]) -> None:
    """Note by which transaction, and where, these are in the chain; of those that wait for it."""
    mined = [place[1] for place in places.values()]
    update_each(
        Batch,
        [*places],
        {
            Batch.transaction_hash: [place[0] for place in places.values()],
            Batch.block_number: [one.block_number for one in mined],
            Batch.block_hash: [one.block_hash for one in mined],
            Batch.block_time: [one.block_time for one in mined],
            Batch.gas_used: [one.gas_used for one in mined],
            Batch.gas_price_wei: [str(one.gas_price_wei) for one in mined],
            Batch.confirmations: [one.confirmations for one in mined],
        },
        Batch.state == BatchState.SUBMITTED,
    )


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


def _retire_siblings(transaction_ids: Sequence[int]) -> None:
    """What shares a nonce with one of these can not be mined as long as that one is.

    Of another batch than that one's, it is given up only once that is believed: `nonces.lose`.
    """
    used = Transaction.alias()
    same = (
        (used.chain_id == Transaction.chain_id)
        & (used.signer == Transaction.signer)
        & (used.nonce == Transaction.nonce)
        & (used.id != Transaction.id)
        & (Transaction.batch.is_null() | (Transaction.batch == used.batch))
    )
    Transaction.update(lost_at=time.time()).where(
        Transaction.lost_at.is_null(),
        Transaction.state.in_(TransactionState.UNMINED),
        pw.fn.EXISTS(used.select(used.id).where(among(used.id, transaction_ids), same)),
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
    _place_batches({batch_id: (hash_, mined)})
    return settle(batch_id)


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch that has just become deep enough."""

    batch_id: int
    lane: str
    size: int


def settle(batch_id: int) -> bool:
    """`settle_many` of one: submitted → settled. False when somebody else did it."""
    return bool(settle_many([batch_id]))


@transaction
def settle_many(batch_ids: Sequence[int]) -> list[Settled]:
    """submitted → settled: deep enough to be confirmed. Returns those that this call has settled.

    None of which it is not noted in which block it is.
    """
    return _settle(batch_ids)


def _settle(batch_ids: Sequence[int]) -> list[Settled]:
    if not batch_ids:
        return []
    mine = Batch.select(Batch.id).where(
        among(Batch.id, batch_ids), Batch.state == BatchState.SUBMITTED, Batch.block_number.is_null(False)
    )
    ids = [row[0] for row in rows(locked(mine.order_by(Batch.id)))]
    columns = (Batch.id, Batch.lane, Batch.size, Batch.submitted_at, Batch.gas_used, Batch.gas_price_wei)
    settled = rows(
        Batch.update(state=BatchState.SETTLED, sent_at=time.time())
        .where(among(Batch.id, ids), Batch.state == BatchState.SUBMITTED)
        .returning(*columns)
    )
    tallies.batches_settled([row[2] for row in settled], [row[3] for row in settled])
    for *_, gas_used, gas_price_wei in settled:
        if gas_used is not None:
            tallies.gas(gas_used, int(gas_price_wei))
    return [Settled(*row[:3]) for row in settled]


@transaction
def record_reverted(transaction_id: int) -> None:
    """Note that it was mined with status 0: its nonce is used up, in vain."""
    row: Transaction = locked(Transaction.select().where(Transaction.id == transaction_id)).get()
    Transaction.update(state=TransactionState.REVERTED).where(Transaction.id == transaction_id).execute()
    _retire_siblings([row.id])


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
    return dead_letters.bury(members, error, state=State.IN_A_BATCH, stage="settle", batch_id=row.batch_id)


def _members(batch_id: int) -> Sequence[int]:
    query = Write.select(Write.id).where(Write.batch == batch_id, still(Write.state, *State.IN_A_BATCH))
    return [row[0] for row in rows(query)]

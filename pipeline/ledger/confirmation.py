"""verified → confirmed, for all members of a settled batch and in their credentials' rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import peewee as pw

from pipeline.database import transaction
from pipeline.ledger import metadata, outbox, tallies
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import locked, still
from pipeline.models import Batch, BatchState, State, Write


@dataclass(frozen=True, slots=True)
class ConfirmedWrite:
    """A write that has just been confirmed."""

    write_id: int
    job_id: str
    credential_id: str
    priority: str
    own_message: bool
    queued_at: float


def confirm(batch_id: int) -> list[ConfirmedWrite]:
    """`confirm_many` of one batch."""
    return confirm_many([batch_id])


@dataclass(frozen=True, slots=True)
class _Settled:
    """A batch that is confirmed now, and where it is on the chain."""

    id: int
    merkle_root: str | None
    transaction_hash: str | None
    block_number: int | None
    mock: bool


def confirm_many(batch_ids: Sequence[int]) -> list[ConfirmedWrite]:
    """Confirm the members of settled batches; returns those that this call has confirmed."""
    try:
        return _confirm(batch_ids, plain=True)
    except pw.DataError:  # some issuer's metadata: nothing is done yet
        return _confirm(batch_ids, plain=False)


@transaction
def _confirm(batch_ids: Sequence[int], *, plain: bool) -> list[ConfirmedWrite]:
    now = time.time()
    if len(batch_ids) > 1:
        _lock_batches(list(batch_ids))
    found = [_Settled(*row) for row in _confirm_batches(list(batch_ids), now).fetchall()]
    batches = {batch.id: batch for batch in sorted(found, key=lambda batch: batch.id)}
    if not batches:
        return []
    members: dict[int, list[ConfirmedWrite]] = {batch_id: [] for batch_id in batches}
    for batch_id, *row in _confirm_members([*batches], now).fetchall():
        members[batch_id].append(ConfirmedWrite(*row))
    confirmed = [write for writes in members.values() for write in writes]
    tallies.confirmed([write.queued_at for write in confirmed], now)
    metadata.mark_confirmed_at(_places(batches, members), confirmed_at=now, plain=plain)
    _tell(batches, members)
    return confirmed


_confirm_batches = Fixed(
    lambda ids, now: (
        Batch.update(state=BatchState.CONFIRMED, confirmed_at=now)
        .where(any_of(Batch.id, ids), still(Batch.state, BatchState.SETTLED))
        .returning(Batch.id, Batch.merkle_root, Batch.transaction_hash, Batch.block_number, Batch.mock)
    )
)


#: In one order, so that no two wait for each other.
_lock_batches = Fixed(
    lambda ids: locked(
        Batch.select(Batch.id)
        .where(any_of(Batch.id, ids), still(Batch.state, BatchState.SETTLED))
        .order_by(Batch.id)
    )
)


_confirm_members = Fixed(
    lambda ids, now: (
        Write.update(state=State.CONFIRMED, updated_at=now, finished_at=now, due_at=None)
        .where(any_of(Write.batch, ids), still(Write.state, *State.IN_A_BATCH))
        .returning(
            Write.batch,
            Write.id,
            Write.job_id,
            Write.credential_id,
            Write.priority,
            Write.own_message,
            Write.queued_at,
        )
    )
)


def _places(
    batches: Mapping[int, _Settled], members: Mapping[int, Sequence[ConfirmedWrite]]
) -> list[metadata.Place]:
    return [
        metadata.Place(
            batch.transaction_hash, batch.block_number, [write.credential_id for write in members[batch_id]]
        )
        for batch_id, batch in batches.items()
    ]


def _tell(batches: Mapping[int, _Settled], members: Mapping[int, Sequence[ConfirmedWrite]]) -> None:
    outbox.add_all(
        [
            outbox.Event(
                "completed",
                [(write.job_id, write.credential_id) for write in members[batch_id]],
                {
                    "transaction_hash": batch.transaction_hash,
                    "block_number": batch.block_number,
                    "merkle_root": batch.merkle_root,
                    "mock": bool(batch.mock),
                },
                log={"batch_id": batch_id},
            )
            for batch_id, batch in batches.items()
        ]
    )

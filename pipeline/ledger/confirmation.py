"""verified → confirmed, for all members of a settled batch and in their credentials' rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.database import transaction
from pipeline.ledger import metadata, outbox, tallies
from pipeline.ledger.sql import among, locked, plain_rows, still
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


@transaction
def confirm_many(batch_ids: Sequence[int]) -> list[ConfirmedWrite]:
    """Confirm the members of settled batches; returns those that this call has confirmed."""
    query = Batch.select().where(among(Batch.id, batch_ids), Batch.state == BatchState.SETTLED)
    batches: dict[int, Batch] = {batch.id: batch for batch in locked(query.order_by(Batch.id))}
    if not batches:
        return []
    now = time.time()
    written = plain_rows(
        Write.update(state=State.CONFIRMED, updated_at=now, finished_at=now, due_at=None)
        .where(among(Write.batch, [*batches]), still(Write.state, *State.IN_A_BATCH))
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
    members: dict[int, list[ConfirmedWrite]] = {batch_id: [] for batch_id in batches}
    for batch_id, *row in written:
        members[batch_id].append(ConfirmedWrite(*row))
    confirmed = [write for writes in members.values() for write in writes]
    tallies.confirmed([write.queued_at for write in confirmed], now)
    metadata.mark_confirmed_at(_places(batches, members), confirmed_at=now)
    Batch.update(state=BatchState.CONFIRMED, confirmed_at=now).where(among(Batch.id, [*batches])).execute()
    _tell(batches, members)
    return confirmed


def _places(
    batches: Mapping[int, Batch], members: Mapping[int, Sequence[ConfirmedWrite]]
) -> list[metadata.Place]:
    return [
        metadata.Place(
            batch.transaction_hash, batch.block_number, [write.credential_id for write in members[batch_id]]
        )
        for batch_id, batch in batches.items()
    ]


def _tell(batches: Mapping[int, Batch], members: Mapping[int, Sequence[ConfirmedWrite]]) -> None:
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

"""written → confirmed, for all members of a settled batch and in their credentials' rows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.database import transaction
from pipeline.ledger import metadata, outbox, tallies
from pipeline.ledger.sql import locked, plain_rows
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


@transaction
def confirm(batch_id: int) -> list[ConfirmedWrite]:
    """Confirm the members of a settled batch; returns those that this call has confirmed."""
    query = Batch.select().where(Batch.id == batch_id, Batch.state == BatchState.SETTLED)
    batch: Batch | None = locked(query).first()
    if batch is None:
        return []
    now = time.time()
    rows = plain_rows(
        Write.update(state=State.CONFIRMED, updated_at=now, finished_at=now, due_at=None)
        .where(Write.batch == batch_id, Write.state == State.WRITTEN)
        .returning(
            Write.id,
            Write.job_id,
            Write.credential_id,
            Write.priority,
            Write.own_message,
            Write.queued_at,
        )
    )
    confirmed = [ConfirmedWrite(*row) for row in rows]
    tallies.confirmed([write.queued_at for write in confirmed], now)
    metadata.mark_confirmed(
        [write.credential_id for write in confirmed],
        transaction_hash=batch.transaction_hash,
        block_number=batch.block_number,
        confirmed_at=now,
    )
    Batch.update(state=BatchState.CONFIRMED, confirmed_at=now).where(Batch.id == batch_id).execute()
    outbox.add(
        "completed",
        [(write.job_id, write.credential_id) for write in confirmed],
        transaction_hash=batch.transaction_hash,
        block_number=batch.block_number,
        merkle_root=batch.merkle_root,
        mock=bool(batch.mock),
        log={"batch_id": batch_id},
    )
    return confirmed

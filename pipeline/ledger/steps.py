"""What all members of a batch do together, told to the log."""

from __future__ import annotations

from typing import Any

from pipeline import transitions
from pipeline.ledger.sql import rows
from pipeline.models import Batch, Write


def tell(event: str, batch_id: int, **fields: Any) -> None:
    """Log a step of a batch's members; those of a large batch are not read for it."""
    count: int = rows(Batch.select(Batch.size).where(Batch.id == batch_id))[0][0]
    query = Write.select(Write.job_id, Write.credential_id).where(Write.batch == batch_id)
    jobs = [] if transitions.is_one_line(count) else rows(query.order_by(Write.id))
    transitions.tell(event, [(row[0], row[1]) for row in jobs], count=count, batch_id=batch_id, **fields)

"""What all members of a batch do together, told to the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pipeline import transitions
from pipeline.ledger.sql import among, rows
from pipeline.models import Batch, Write


def tell(event: str, batch_id: int, **fields: Any) -> None:
    """Log a step of a batch's members; those of a large batch are not read for it."""
    tell_each(event, {batch_id: fields})


def tell_each(
    event: str, fields: Mapping[int, Mapping[str, Any]], sizes: Mapping[int, int] | None = None
) -> None:
    """Log the same step of several batches' members, each with the fields of its batch.

    ``sizes``: how many members each has, where that is known.
    """
    if not fields:
        return
    if sizes is None:
        sizes = dict(rows(Batch.select(Batch.id, Batch.size).where(among(Batch.id, [*fields]))))
    jobs: defaultdict[int, list[transitions.Job]] = defaultdict(list)
    named = [batch_id for batch_id in fields if not transitions.is_one_line(sizes[batch_id])]
    query = Write.select(Write.batch, Write.job_id, Write.credential_id).where(among(Write.batch, named))
    for batch_id, job_id, credential_id in rows(query.order_by(Write.id)) if named else ():
        jobs[batch_id].append((job_id, credential_id))
    for batch_id, own in fields.items():
        transitions.tell(event, jobs[batch_id], count=sizes[batch_id], batch_id=batch_id, **own)

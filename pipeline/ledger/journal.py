"""What happened to writes and batches that their rows do not tell: failed attempts, reorgs, who did what."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.database import transaction
from pipeline.ledger.sql import chunks
from pipeline.models import Journal

#: Who did it, where no person did.
PIPELINE = "pipeline"

ATTEMPT_FAILED = "attempt failed"
UNCONFIRMED = "unconfirmed"
WRITTEN_AGAIN = "written again"
REPLAYED = "replayed"
DISCARDED = "discarded"
PAUSED, RESUMED = "paused", "resumed"


@transaction
def note(
    event: str,
    *,
    write_ids: Sequence[int] = (),
    batch_id: int | None = None,
    actor: str = PIPELINE,
    detail: str | None = None,
) -> None:
    """Write down ``event`` of these writes, of a batch, or of neither."""
    common = {"event": event, "actor": actor, "detail": detail}
    if not write_ids:
        Journal.create(**common, batch_id=batch_id)
    for part in chunks(write_ids):
        Journal.insert_many([{**common, "write_id": write_id} for write_id in part]).execute()


def of_write(write_id: int, batch_ids: Sequence[int]) -> list[Journal]:
    """What was written down of a write, and of the batches that it was in, in order."""
    mine = (Journal.write_id == write_id) | Journal.batch_id.in_(list(batch_ids))
    return list(Journal.select().where(mine).order_by(Journal.at, Journal.id))


def forget(write_ids: Sequence[int]) -> None:
    """Drop what the pipeline wrote down of these; what people did to them stays."""
    Journal.delete().where(Journal.write_id.in_(list(write_ids)), Journal.actor == PIPELINE).execute()

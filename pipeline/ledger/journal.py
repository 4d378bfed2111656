"""What happened to writes and batches that their rows do not tell: failed attempts, reorgs, who did what."""

from __future__ import annotations

from collections.abc import Sequence

from peewee import fn

from pipeline.database import transaction
from pipeline.ledger.sql import chunks, rows
from pipeline.models import DeadLetter, Journal, Write

#: Who did it, where no person did.
PIPELINE = "pipeline"

ATTEMPT_FAILED = "attempt failed"
UNCONFIRMED = "unconfirmed"
WRITTEN_AGAIN = "written again"
REPLAYED = "replayed"
DISCARDED = "discarded"
ERASED = "erased"
PAUSED, RESUMED = "paused", "resumed"
LOGGED_IN, LOGGED_OUT, LOG_IN_REFUSED = "logged in", "logged out", "log-in refused"


@transaction
def note(
    event: str,
    *,
    write_ids: Sequence[int] = (),
    batch_id: int | None = None,
    actor: str = PIPELINE,
    detail: str | None = None,
    once: bool = False,
) -> None:
    """Write down ``event`` of these writes, of a batch, or of neither.

    ``once``: not where the same was written down of the batch last.
    """
    common = {"event": event, "actor": actor, "detail": detail}
    if not write_ids and not (once and _is_newest_of(batch_id, event, detail)):
        Journal.create(**common, batch_id=batch_id)
    for part in chunks(write_ids):
        Journal.insert_many([{**common, "write_id": write_id} for write_id in part]).execute()


def of_write(write_id: int, batch_ids: Sequence[int]) -> list[Journal]:
    """What was written down of a write, and of the batches that it was in, in order."""
    mine = (Journal.write_id == write_id) | Journal.batch_id.in_(list(batch_ids))
    return list(Journal.select().where(mine).order_by(Journal.at, Journal.id))


def _is_newest_of(batch_id: int | None, event: str, detail: str | None) -> bool:
    newest = Journal.select(Journal.event, Journal.detail).where(Journal.batch_id == batch_id)
    return (event, detail) in rows(newest.order_by(Journal.id.desc()).limit(1))


def forget(write_ids: Sequence[int], batch_ids: Sequence[int]) -> None:
    """Drop what the pipeline wrote down of these, and of those batches of which no write is left.

    What people did to them stays, and that they were erased.
    """
    left = Write.select(Write.id).where(Write.batch == Journal.batch_id, Write.purged_at.is_null())
    letters = DeadLetter.select(DeadLetter.id).where(DeadLetter.batch_id == Journal.batch_id)
    over = Journal.batch_id.in_(list(batch_ids)) & ~fn.EXISTS(left) & ~fn.EXISTS(letters)
    mine = Journal.write_id.in_(list(write_ids)) | over
    Journal.delete().where(mine, Journal.actor == PIPELINE, Journal.event != ERASED).execute()

"""What a purge takes away: a finished job leaves counts and lists; its tombstone answers on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import peewee as pw

from pipeline.database import reading, transaction
from pipeline.ledger import journal
from pipeline.ledger.sql import rows
from pipeline.models import DeadLetter, State, Write

#: Rows that one transaction purges.
CHUNK = 500


#: When a write ended, and its id: the order in which they go. An id of 0 comes before all of that time.
Place = tuple[float, int]


def purge_completed(*, finished_before: float, keep_newest: int) -> Iterator[list[str]]:
    """Purge completed jobs that are too old or beyond the newest; yields the job ids, chunk by chunk.

    Each chunk is a transaction of its own, and costs what the first did.
    """
    return _chunks(State.CONFIRMED, max((finished_before, 0), _newest_beyond(keep_newest)))


def purge_failed(*, finished_before: float) -> Iterator[list[str]]:
    """Purge failed jobs and their dead letters; yields the job ids, chunk by chunk."""
    return _chunks(State.FAILED, (finished_before, 0))


@reading
def _newest_beyond(keep_newest: int) -> Place:
    """Where the newest completed job is that is not among so many newest."""
    kept = Write.select(Write.finished_at, Write.id).where(
        Write.state == State.CONFIRMED, Write.purged_at.is_null()
    )
    newest = kept.order_by(Write.finished_at.desc(), Write.id.desc()).offset(keep_newest).limit(1)
    return next(iter(rows(newest)), (0.0, 0))


def _chunks(state: str, last: Place) -> Iterator[list[str]]:
    """Each chunk begins where the one before ended: what is purged is not walked through again.

    PostgreSQL's index holds it until the next vacuum.
    """
    job_ids, end = _purge(state, (0.0, 0), last)
    while end is not None:
        if job_ids:
            yield job_ids
        job_ids, end = _purge(state, end, last)


@transaction
def _purge(state: str, after: Place, last: Place) -> tuple[list[str], Place | None]:
    """Purge one chunk; returns its job ids and where it ends, or None when nothing was left."""
    place = pw.Tuple(Write.finished_at, Write.id)
    chosen = rows(
        Write.select(Write.finished_at, Write.id)
        .where(
            Write.state == state,
            Write.purged_at.is_null(),
            place > pw.Tuple(*after),
            place <= pw.Tuple(*last),
        )
        .order_by(Write.finished_at, Write.id)
        .limit(CHUNK)
    )
    if not chosen:
        return [], None
    gone = rows(
        Write.update(purged_at=time.time())
        .where(Write.id.in_([row[1] for row in chosen]), Write.state == state, Write.purged_at.is_null())
        .returning(Write.id, Write.job_id, Write.batch)
    )
    ids = [row[0] for row in gone]
    letters = rows(DeadLetter.delete().where(DeadLetter.write.in_(ids)).returning(DeadLetter.batch_id))
    batch_ids = {row[2] for row in gone} | {row[0] for row in letters}
    journal.forget(ids, [batch_id for batch_id in batch_ids if batch_id is not None])
    return [row[1] for row in gone], chosen[-1]

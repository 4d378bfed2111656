"""What a purge takes away: a finished job leaves counts and lists; its tombstone answers on."""

from __future__ import annotations

import time

from pipeline.database import transaction
from pipeline.ledger import journal
from pipeline.ledger.sql import rows
from pipeline.models import DeadLetter, State, Write

#: Rows that one transaction purges.
CHUNK = 500


@transaction
def purge_completed(*, finished_before: float, keep_newest: int) -> list[str]:
    """Purge a chunk of completed jobs that are too old or beyond the newest; returns their job ids."""
    kept = Write.select().where(Write.state == State.CONFIRMED, Write.purged_at.is_null())
    edge = (
        kept.select(Write.finished_at, Write.id)
        .order_by(Write.finished_at.desc(), Write.id.desc())
        .offset(keep_newest)
        .limit(1)
        .tuples()
        .first()
    )
    too_old = Write.finished_at < finished_before
    if edge is not None:
        beyond = (Write.finished_at < edge[0]) | ((Write.finished_at == edge[0]) & (Write.id <= edge[1]))
        too_old = too_old | beyond
    return _purge(State.CONFIRMED, too_old)


@transaction
def purge_failed(*, finished_before: float) -> list[str]:
    """Purge a chunk of failed jobs and their dead letters; returns their job ids."""
    return _purge(State.FAILED, Write.finished_at < finished_before)


def _purge(state: str, condition: object) -> list[str]:
    chosen = rows(
        Write.select(Write.id)
        .where(Write.state == state, Write.purged_at.is_null(), condition)
        .order_by(Write.finished_at, Write.id)
        .limit(CHUNK)
    )
    ids = [row[0] for row in chosen]
    purged = (
        Write.update(purged_at=time.time())
        .where(Write.id.in_(ids), Write.state == state, Write.purged_at.is_null())
        .returning(Write.id, Write.job_id)
        .tuples()
    )
    gone = list(purged)
    DeadLetter.delete().where(DeadLetter.write.in_([row[0] for row in gone])).execute()
    journal.forget([row[0] for row in gone])
    return [row[1] for row in gone]

"""Open dead letters: of all kinds or of one, newest first, and how many of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peewee import fn

from pipeline.dashboard.data import keyset
from pipeline.dashboard.data.keyset import Page
from pipeline.database import reading
from pipeline.ledger.sql import rows
from pipeline.models import DeadLetter

OPEN = DeadLetter.resolved_at.is_null()


@dataclass(frozen=True, slots=True)
class Letter:
    """One open dead letter; ``error`` is an error class's name, ``message`` one line, of anything."""

    id: int
    credential_id: str
    job_id: str
    stage: str
    error: str
    message: str
    attempts: int
    permanent: bool
    batch_id: int | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Count:
    """How many are open of one kind."""

    stage: str
    error: str
    count: int


@reading
def page(
    *,
    stage: str | None = None,
    error: str | None = None,
    before: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[Letter]:
    """The open ones, of a stage or an error class or both. Raises as `keyset.page` does.

    Each kind that fits is looked up by itself: one may have a handful among a million.
    """
    if stage is None and error is None:
        queries = [DeadLetter.select().where(OPEN)]
    elif stage is not None and error is not None:
        queries = [_of(stage, error)]
    else:
        kinds = [kind for kind in counts() if stage in (None, kind.stage) and error in (None, kind.error)]
        queries = [_of(kind.stage, kind.error) for kind in kinds]
    return keyset.page(queries, (DeadLetter.id,), _letter, before=before, after=after, limit=limit)


def _of(stage: str, error: str) -> Any:
    return DeadLetter.select().where(OPEN, DeadLetter.stage == stage, DeadLetter.error == error)


@reading
def counts() -> tuple[Count, ...]:
    """How many are open of each stage and error class, the most first.

    It reads each of them, in the index where that is shorter: 30,000 take some milliseconds.
    """
    number = fn.COUNT(DeadLetter.id)
    query = DeadLetter.select(DeadLetter.stage, DeadLetter.error, number).where(OPEN)
    found = rows(query.group_by(DeadLetter.stage, DeadLetter.error))
    return tuple(Count(*row) for row in sorted(found, key=lambda row: (-row[2], row[0], row[1])))


def _letter(row: Any) -> Letter:
    return Letter(
        id=row.id,
        credential_id=row.credential_id,
        job_id=row.job_id,
        stage=row.stage,
        error=row.error,
        message=row.message,
        attempts=row.attempts,
        permanent=bool(row.permanent),
        batch_id=row.batch_id,
        created_at=row.created_at,
    )

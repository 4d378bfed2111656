"""What people have done, newest first: the journal without what the pipeline does by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peewee as pw

from pipeline.dashboard.data import keyset
from pipeline.dashboard.data.keyset import Page
from pipeline.database import reading
from pipeline.ledger.journal import PIPELINE
from pipeline.models import Journal, Write


@dataclass(frozen=True, slots=True)
class Act:
    """Who did what and when; credential and job where it was done to one."""

    id: int
    at: float
    event: str
    actor: str
    detail: str | None
    credential_id: str | None
    job_id: str | None
    batch_id: int | None


@reading
def page(*, before: str | None = None, after: str | None = None, limit: int = 50) -> Page[Act]:
    """What people did, by the index ``journal_of_people``. Raises as `keyset.page` does."""
    query = (
        Journal.select(Journal, Write.credential_id, Write.job_id)
        .join(Write, pw.JOIN.LEFT_OUTER, on=(Write.id == Journal.write_id))
        .where(Journal.actor != PIPELINE)
        .objects()
    )
    return keyset.page([query], (Journal.id,), _act, before=before, after=after, limit=limit)


def _act(row: Any) -> Act:
    return Act(
        id=row.id,
        at=row.at,
        event=row.event,
        actor=row.actor,
        detail=row.detail,
        credential_id=row.credential_id,
        job_id=row.job_id,
        batch_id=row.batch_id,
    )

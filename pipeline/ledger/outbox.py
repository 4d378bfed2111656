"""Events on their way out: stored with what has happened, and gone once they were published.

One row for all that one transition has moved. At least once: a process that dies after it has
published, and before it has said so, lets them be published again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from pipeline.database import transaction
from pipeline.ledger.sql import chunks, locked
from pipeline.models import Outbox

#: A row that somebody has claimed and not published for so many seconds is anybody's again.
CLAIM_SECONDS = 15.0

#: Jobs in one row, and rows that are claimed at once.
JOBS, ROWS = 500, 20


def add(event: str, jobs: Sequence[tuple[str, str]], **detail: Any) -> list[Outbox]:
    """Store an event of these (job id, credential id), inside the transaction that makes it true."""
    return [
        Outbox.create(event=event, jobs=json.dumps(part), detail=json.dumps(detail))
        for part in chunks(jobs, JOBS)
    ]


@transaction
def claim(*, stored_before: float) -> list[Outbox]:
    """Take some of those that are to be published; the oldest first."""
    now = time.time()
    free = Outbox.claimed_at.is_null() | (Outbox.claimed_at < now - CLAIM_SECONDS)
    query = Outbox.select(Outbox.id).where(free, Outbox.at < stored_before).order_by(Outbox.id).limit(ROWS)
    ids = [row[0] for row in locked(query).tuples()]
    Outbox.update(claimed_at=now).where(Outbox.id.in_(ids)).execute()
    return list(Outbox.select().where(Outbox.id.in_(ids)).order_by(Outbox.id))


@transaction
def done(rows: Sequence[Outbox]) -> None:
    """They are published."""
    Outbox.delete().where(Outbox.id.in_([row.id for row in rows])).execute()

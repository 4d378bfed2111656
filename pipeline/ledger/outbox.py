"""Events on their way out: stored with what has happened, and gone once they were published.

One row for all that one transition has moved. Their ids are in the order in which it became true for
each job, and one process at a time publishes, the oldest first. At least once: a process that dies after
it has published, and before it has said so, lets them be published again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import peewee as pw

from pipeline.database import database, is_sqlite, transaction
from pipeline.ledger import sql
from pipeline.ledger.bulk import insert_each
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import chunks
from pipeline.models import Outbox

#: What somebody has claimed and not published for so many seconds is anybody's again.
CLAIM_SECONDS = 15.0

#: Jobs in one row, and rows that are claimed at once.
JOBS, ROWS = 500, 20

#: Key of the PostgreSQL advisory lock under which rows are claimed; SQLite has one writer anyway.
LOCK = 7_230_116_002


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to these (job id, credential id).

    ``log`` are fields of its line in the log that are not published.
    """

    name: str
    jobs: Sequence[tuple[str, str]]
    detail: Mapping[str, Any]
    log: Mapping[str, Any] = field(default_factory=dict)


def add(
    event: str, jobs: Sequence[tuple[str, str]], *, log: dict[str, Any] | None = None, **detail: Any
) -> None:
    """`add_all` of one."""
    add_all([Event(event, jobs, detail, log or {})])


def add_all(events: Sequence[Event]) -> None:
    """Store events, inside the transaction that makes them true.

    After the rows of the jobs were changed: who changes them next has waited for that.
    """
    new = [(event, part) for event in events for part in chunks(event.jobs, JOBS)]
    columns = {
        Outbox.event: [event.name for event, _ in new],
        Outbox.jobs: [json.dumps(part) for _, part in new],
        Outbox.detail: [json.dumps({**event.detail, "log": event.log}) for event, _ in new],
    }
    if new:
        insert_each(Outbox, columns, {Outbox.at: time.time()})


@transaction
def claim(*, published: Sequence[Outbox] = ()) -> list[Outbox]:
    """Take the oldest rows, once those that are ``published`` are gone; none while somebody else has some.

    Whoever has some asks again until there are none, so that what is refused here is not left.
    """
    if not is_sqlite():
        database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    if published:
        _delete([row.id for row in published])
    # Of the clock that all share; SQLite has no other than ours.
    found = _claim(time.time()) if is_sqlite() else _claim()
    return sorted(
        (Outbox(**dict(zip(COLUMNS, row, strict=True))) for row in found.fetchall()), key=lambda row: row.id
    )


COLUMNS = ("id", "at", "event", "jobs", "detail")


def _claim_query(now: Any = None) -> Any:
    now = sql.now() if now is None else now
    other, oldest = Outbox.alias(), Outbox.alias()
    taken = other.select(other.id).where(other.claimed_at > now - CLAIM_SECONDS)
    free = oldest.select(oldest.id).order_by(oldest.id).limit(ROWS)
    query = Outbox.update(claimed_at=now).where(Outbox.id.in_(free), ~pw.fn.EXISTS(taken))
    return query.returning(*(getattr(Outbox, name) for name in COLUMNS))


_claim = Fixed(_claim_query)

_delete = Fixed(lambda ids: Outbox.delete().where(any_of(Outbox.id, ids)))


@transaction
def give_back(rows: Sequence[Outbox]) -> None:
    """They could not be published."""
    Outbox.update(claimed_at=None).where(Outbox.id.in_([row.id for row in rows])).execute()

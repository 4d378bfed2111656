"""Queued writes: an attempt begins, and ends or fails; what passed is for `pipeline.ledger.joining`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import peewee as pw
from dramatiq.common import compute_backoff

from pipeline.database import harmless, transaction
from pipeline.errors import PipelineError
from pipeline.ledger import dead_letters, journal, tallies
from pipeline.ledger.attempts import MAX_BACKOFF_MS, FailedAttempt, tell_delayed
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import among, chunks, plain_rows, rows, still, text_of
from pipeline.metrics.catalogue import RETRIED
from pipeline.models import Credential, State, Verification, Write

#: No message of a dead worker is delivered again sooner: its heartbeat has to have stopped for 3 s. That
#: may have been up to 2 s old when the verification began, where its threads had to wait for a core.
REDELIVERY_SECONDS = 1.0

#: The attempts of a write of which one has begun.
AT_LEAST_ONE = pw.Case(None, ((Write.attempts == 0, 1),), Write.attempts)


@dataclass(frozen=True, slots=True)
class Verifiable:
    """A queued write beside what it has to be compared with."""

    id: int
    job_id: str
    credential_id: str
    data_hash: str
    ipfs_cid: str | None
    priority: str
    attempts: int
    deliveries: int
    known: bool
    document: str | None = field(repr=False)
    credential_hash: str | None


def begun_before(write_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Those of ``write_ids`` that were begun without an end: once, and more often, fewest first."""
    found: list[tuple[int, int]] = []
    for part in chunks(write_ids):
        query = Write.select(Write.deliveries, Write.id)
        found += rows(query.where(Write.id.in_(part), still(Write.state, State.QUEUED), Write.deliveries > 0))
    return (
        [write_id for deliveries, write_id in sorted(found) if deliveries == 1],
        [write_id for deliveries, write_id in sorted(found) if deliveries > 1],
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """Writes whose verification begins, and the record of it that `end` takes away."""

    writes: list[Verifiable]
    record: int | None


@harmless
def begin_first(write_ids: Sequence[int]) -> Begun:
    """Begin the first verification of those of ``write_ids`` that are queued and due.

    What was begun before and never ended is left alone, and so is what somebody is at just now. One row
    says of all of them that they have begun: who dies leaves it there, and whoever comes next counts it
    as a delivery of each. Their attempt is counted when it ends.
    """
    taken = _recover(write_ids)
    wanted = [write_id for write_id in write_ids if write_id not in taken]
    found = [Verifiable(*row) for row in _untouched(wanted).fetchall()] if wanted else []
    fresh = [replace(write, attempts=1, deliveries=1) for write in found]
    record = _note([write.id for write in fresh]) if fresh else None
    if len(fresh) == len(wanted):
        return Begun(fresh, record)
    known = {write.id for write in fresh}
    return Begun(fresh + begin([id_ for id_ in wanted if id_ not in known], again=False), record)


def _note(write_ids: Sequence[int]) -> int:
    ids = sorted(write_ids)
    return int(_insert_record(time.time(), ids[0], ids[-1], json.dumps(ids)).fetchone()[0])


_insert_record = Fixed(
    lambda now, first, last, ids: Verification.insert(
        begun_at=now, first_id=first, last_id=last, write_ids=ids
    ).returning(Verification.id)
)


def _recover(write_ids: Sequence[int]) -> set[int]:
    """Count what dead workers have left of these as deliveries; returns those that somebody is at."""
    taken: set[int] = set()
    if not write_ids:
        return taken
    wanted = set(write_ids)
    for row in _near(min(wanted), max(wanted)).fetchall():
        record = Verification(id=row[0], begun_at=row[1], write_ids=row[2])
        ids = set(json.loads(record.write_ids))
        # One that begins later than now is of a clock that was wrong: that says of nobody that he is at it.
        if abs(time.time() - record.begun_at) < REDELIVERY_SECONDS:
            taken |= ids & wanted
        elif ids & wanted:
            if not _takes_from(record, sorted(ids - wanted)):
                return _recover(write_ids)  # somebody else has come for some of them: look again
            _count_delivery(sorted(ids & wanted))
    return taken


_near = Fixed(
    lambda first, last: (
        Verification.select(Verification.id, Verification.begun_at, Verification.write_ids)
        .where(Verification.first_id <= last, Verification.last_id >= first)
        .order_by(Verification.id)
    )
)


def _takes_from(record: Verification, left: list[int]) -> bool:
    """Leave only ``left`` in the record; False when somebody else has changed it."""
    mine = (Verification.id == record.id) & (Verification.write_ids == record.write_ids)
    if not left:
        return bool(Verification.delete().where(mine).execute())
    return bool(Verification.update(write_ids=json.dumps(left)).where(mine).execute())


def _count_delivery(write_ids: Sequence[int]) -> None:
    """It was long enough ago for the next one to be another."""
    then = time.time() - 2 * REDELIVERY_SECONDS
    for part in chunks(write_ids):
        Write.update(attempts=AT_LEAST_ONE, deliveries=Write.deliveries + 1, updated_at=then).where(
            among(Write.id, part), still(Write.state, State.QUEUED), Write.due_at.is_null()
        ).execute()


@harmless
def end(records: Sequence[int]) -> None:
    """The verifications that begun with these have ended, whatever became of the writes."""
    if records:
        _delete_records(list(records))


_delete_records = Fixed(lambda ids: Verification.delete().where(any_of(Verification.id, ids)))


@transaction
def forget_old(before: float) -> None:
    """Drop the records of verifications that begun before that, and that nobody came back for."""
    Verification.delete().where(Verification.begun_at < before).execute()


@transaction
def begin(write_ids: Sequence[int], *, again: bool = True) -> list[Verifiable]:
    """Begin an attempt at those of ``write_ids`` that are still queued and due; returns them.

    A write that is delivered a second time without having failed keeps its attempt; the deliveries
    are counted until one of them comes to an end, several at once as one. ``again`` False leaves
    alone what was begun before, without an end.
    """
    now = time.time()
    mine = among(Write.id, write_ids) & (still(Write.state, State.QUEUED))
    due = Write.due_at.is_null() | (Write.due_at <= now)
    new_attempt = (Write.attempts == 0) | Write.due_at.is_null(False)
    new_delivery = (Write.deliveries == 0) | (Write.updated_at < now - REDELIVERY_SECONDS)
    begun = (
        Write.update(
            attempts=Write.attempts + pw.Case(None, ((new_attempt, 1),), 0),
            deliveries=Write.deliveries + pw.Case(None, ((new_delivery, 1),), 0),
            due_at=None,
            updated_at=now,
        )
        .where(mine, due, new_attempt | new_delivery if again else Write.deliveries == 0)
        .returning(Write.id)
    )
    ids = [row[0] for row in rows(begun)]
    return _verifiable(write_ids if again else ids, Write.due_at.is_null())


def _verifiable(write_ids: Sequence[int], condition: Any) -> list[Verifiable]:
    return [Verifiable(*row) for row in plain_rows(_select(among(Write.id, write_ids), condition))]


def _select(named: Any, condition: Any) -> Any:
    """Those of the ``named`` writes that are queued and fulfil ``condition``, beside their credentials."""
    return (
        Write.select(
            Write.id,
            Write.job_id,
            Write.credential_id,
            Write.data_hash,
            Write.ipfs_cid,
            Write.priority,
            Write.attempts,
            Write.deliveries,
            Credential.id.is_null(False),
            text_of(Credential.document),
            Credential.data_hash,
        )
        .join(Credential, pw.JOIN.LEFT_OUTER, on=(Credential.id == Write.credential_id))
        .where(named, still(Write.state, State.QUEUED), condition)
        .order_by(Write.id)
    )


_untouched = Fixed(
    lambda ids: _select(
        any_of(Write.id, ids), (Write.attempts == 0) & (Write.deliveries == 0) & Write.due_at.is_null()
    )
)


@transaction
def count_attempt(write_ids: Sequence[int]) -> None:
    """The first attempt at these queued writes has ended: it was noted for their chunk only."""
    for part in chunks(write_ids):
        first = (Write.attempts == 0) & (still(Write.state, State.QUEUED))
        Write.update(attempts=1).where(Write.id.in_(part), first).execute()


@transaction
def fail_attempt(
    write_ids: Sequence[int], error: PipelineError, *, stage: str, max_attempts: int, min_backoff_ms: int
) -> FailedAttempt:
    """Record that an attempt at queued writes has failed: a later try, dead letters, or both.

    One whose attempt has failed already, in a second delivery, is left alone.
    """
    count_attempt(write_ids)
    mine = Write.id.in_(list(write_ids)) & (still(Write.state, State.QUEUED)) & Write.due_at.is_null()
    members = rows(Write.select(Write.id, Write.attempts, Write.job_id, Write.credential_id).where(mine))
    dead = [row[0] for row in members if error.permanent or row[1] >= max_attempts]
    alive = {row[0]: row for row in members if not error.permanent and row[1] < max_attempts}
    cause = dead_letters.bury(dead, error, state=State.QUEUED, stage=stage) if dead else None
    if not alive:
        return FailedAttempt(None, cause)
    attempts = max(row[1] for row in alive.values())
    _, delay_ms = compute_backoff(attempts - 1, factor=min_backoff_ms, max_backoff=MAX_BACKOFF_MS)
    due_at = time.time() + delay_ms / 1000
    Write.update(due_at=due_at, sent_at=due_at, deliveries=0, updated_at=time.time()).where(
        Write.id.in_(list(alive)), still(Write.state, State.QUEUED)
    ).execute()
    detail = f"{error.code}: {error.message}"
    journal.note(journal.ATTEMPT_FAILED, write_ids=list(alive), detail=detail)
    tallies.attempts(len(alive), stage=stage, outcome=RETRIED)
    tell_delayed(alive.values(), error, stage, delay_ms)
    return FailedAttempt(delay_ms, cause)


@transaction
def end_deliveries(write_ids: Sequence[int]) -> None:
    """The handling of these came to an end, whatever it was: no worker died of it."""
    for part in chunks(write_ids):
        Write.update(deliveries=0).where(Write.id.in_(part), still(Write.state, State.QUEUED)).execute()

"""Any state → failed, with a dead letter each; and back, by a replay."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import peewee as pw

from pipeline import transitions
from pipeline.database import transaction
from pipeline.errors import PipelineError, UnknownDeadLetter
from pipeline.ledger import journal, metadata, outbox, tallies
from pipeline.ledger.sql import chunks, lock_credentials, rows, still
from pipeline.models import DeadLetter, State, Write

#: What a dead letter that went out by itself is resolved as.
AUTO_REPLAYED = "replayed automatically"

#: What one is resolved as whose credential has got another write.
SUPERSEDED = "superseded"

#: Seconds after which an alert that did not arrive is raised again.
ALERT_AGAIN_SECONDS = 60.0

#: How often an outage's dead letters are replayed by themselves.
MAX_AUTO_REPLAYS = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """What killed one write, or all of a batch: one alert."""

    id: str
    stage: str
    error: str
    message: str
    attempts: int
    permanent: bool
    count: int
    credential_id: str
    batch_id: int | None


@transaction
def bury(
    write_ids: Sequence[int],
    error: PipelineError,
    *,
    state: str | tuple[str, ...],
    stage: str,
    batch_id: int | None = None,
) -> str | None:
    """Make writes failed that are in ``state``: dead letter, credential's metadata, in one transaction.

    One that has moved on is left alone: who speaks of it has looked at it too long ago. Returns the
    id of the cause under which `alert` is to be raised; None when all of them had moved on.
    """
    cause = str(uuid4())
    buried = 0
    for part in chunks(write_ids):
        dying = _fail(part, error, state, stage)
        buried += len(dying)
        metadata.mark_failed([row[1] for row in dying], f"{error.code}: {error.message}")
        _announce(dying, error, stage=stage, batch_id=batch_id)
        _insert_letters(dying, error, cause=cause, stage=stage, batch_id=batch_id)
    return cause if buried else None


def _fail(
    write_ids: Sequence[int], error: PipelineError, state: str | tuple[str, ...], stage: str
) -> list[tuple[int, str, str, int]]:
    """``state`` → failed; id, credential, job and attempts of those that this call has moved.

    The guard is in the UPDATE itself: of two that bury at once, the one that waited for the other's
    row locks finds none in that state.
    """
    now = time.time()
    return rows(
        Write.update(
            state=State.FAILED,
            batch=None,
            due_at=None,
            updated_at=now,
            finished_at=now,
            error_code=error.code,
            error_message=error.message,
            error_stage=stage,
            error_permanent=error.permanent,
        )
        .where(Write.id.in_(write_ids), still(Write.state, *([state] if isinstance(state, str) else state)))
        .returning(Write.id, Write.credential_id, Write.job_id, Write.attempts)
    )


def _announce(
    dying: Sequence[tuple[int, str, str, int]], error: PipelineError, *, stage: str, batch_id: int | None
) -> None:
    """Store the event, apart for each number of attempts that they have had."""
    for attempt in sorted({row[3] for row in dying}):
        jobs = [(row[2], row[1]) for row in dying if row[3] == attempt]
        log = {"attempt": attempt, "batch_id": batch_id}
        outbox.add("failed", jobs, error=error.code, stage=stage, log=log)


def _insert_letters(
    dying: Sequence[tuple[int, str, str, int]],
    error: PipelineError,
    *,
    cause: str,
    stage: str,
    batch_id: int | None,
) -> None:
    common = {
        "cause_id": cause,
        "stage": stage,
        "error": error.code,
        "message": error.message,
        "permanent": error.permanent,
        "batch_id": batch_id,
        "created_at": time.time(),
    }
    replays = {} if error.permanent else _auto_replays([row[0] for row in dying])
    letters = [
        {
            **common,
            "write": write_id,
            "credential_id": credential_id,
            "job_id": job_id,
            "attempts": attempts,
            "replayable": not error.permanent and replays.get(write_id, 0) < MAX_AUTO_REPLAYS,
        }
        for write_id, credential_id, job_id, attempts in dying
    ]
    if letters:
        DeadLetter.insert_many(letters).execute()
    tallies.dead_letters(len(letters), stage=stage, error=error.code)


def _auto_replays(write_ids: Sequence[int]) -> dict[int, int]:
    """How often each of these was replayed by itself, if it ever was."""
    return dict(
        rows(
            DeadLetter.select(DeadLetter.write, pw.fn.COUNT(DeadLetter.id))
            .where(DeadLetter.write.in_(write_ids), DeadLetter.resolution == AUTO_REPLAYED)
            .group_by(DeadLetter.write)
        )
    )


@transaction
def bury_unheard(row: Mapping[str, Any], error: PipelineError, *, stage: str) -> str | None:
    """A dead letter for a message that did not become a write; one attempt, nobody to raise to.

    ``row`` is what can be said of it. Returns the id of the cause; None for a job that is known.
    """
    now = time.time()
    failed = {
        **row,
        "state": State.FAILED,
        "attempts": 1,
        "updated_at": now,
        "finished_at": now,
        "error_code": error.code,
        "error_message": error.message,
        "error_stage": stage,
        "error_permanent": error.permanent,
    }
    inserted = rows(Write.insert(failed).on_conflict_ignore().returning(Write.id))
    if not inserted:
        return None
    cause = str(uuid4())
    dying = [(inserted[0][0], row["credential_id"], row["job_id"], 1)]
    _announce(dying, error, stage=stage, batch_id=None)
    _insert_letters(dying, error, cause=cause, stage=stage, batch_id=None)
    return cause


@transaction
def requeue(
    write_ids: Sequence[int],
    *,
    resolution: str,
    actor: str = journal.PIPELINE,
    due_at: float | None = None,
) -> list[int]:
    """failed → queued under the old job id, with new attempts; returns those that were failed.

    ``due_at``: not before that time, in seconds since 1970.

    Ten at once: one of them moves the row, nine find nothing to move. What another write of the
    credential has overtaken stays as it is, as does what never was a write, or whose salt was erased.
    """
    moved: list[int] = []
    now = time.time()
    for part in chunks(write_ids):
        # Intake takes the same locks: no other write of these can come up meanwhile.
        lock_credentials(
            [row[0] for row in rows(Write.select(Write.credential_id).where(Write.id.in_(part)))]
        )
        failed = list(
            Write.update(
                state=State.QUEUED,
                attempts=0,
                deliveries=0,
                due_at=due_at,
                finished_at=None,
                purged_at=None,
                sent_at=due_at or now,
                requested_at=now,
                updated_at=now,
                error_code=None,
                error_message=None,
                error_stage=None,
                error_permanent=None,
            )
            .where(
                Write.id.in_(part),
                still(Write.state, State.FAILED),
                Write.salt.is_null(False),
                ~_overtaken(part),
            )
            .returning(Write.id, Write.credential_id, Write.job_id)
            .tuples()
        )
        if failed:
            _requeued([row[0] for row in failed], resolution, actor)
            metadata.mark_pending([row[1] for row in failed])
            outbox.add("pending", [(row[2], row[1]) for row in failed], reason=resolution)
        moved += [row[0] for row in failed]
    return moved


def _requeued(write_ids: Sequence[int], resolution: str, actor: str) -> None:
    _resolve(write_ids, resolution)
    journal.note(journal.REPLAYED, write_ids=write_ids, actor=actor, detail=resolution)


def _overtaken(write_ids: Sequence[int]) -> Any:
    """Whether another write of the credential is pending, or comes later in the same list."""
    other = Write.alias()
    later = other.id.in_(write_ids) & (other.id > Write.id) & (other.state == State.FAILED)
    return pw.fn.EXISTS(
        other.select(other.id).where(
            other.credential_id == Write.credential_id, other.state.in_(State.PENDING) | later
        )
    )


def supersede(credential_ids: Sequence[str]) -> None:
    """Close the open dead letters of credentials that get a new write: theirs is outdated."""
    for part in chunks(credential_ids):
        _resolve_of(part, SUPERSEDED)


def supersede_others(write_ids: Sequence[int]) -> None:
    """Close those of the same credentials' other writes: these are what was asked for last."""
    for part in chunks(write_ids):
        current = Write.select(Write.credential_id).where(Write.id.in_(part))
        DeadLetter.update(resolved_at=time.time(), resolution=SUPERSEDED).where(
            DeadLetter.credential_id.in_(current),
            DeadLetter.write.not_in(part),
            DeadLetter.resolved_at.is_null(),
        ).execute()


def resolve_erased(credential_id: str) -> int:
    """Close the open dead letters of a credential that is erased; returns how many there were."""
    return _resolve_of([credential_id], journal.ERASED)


def _resolve_of(credential_ids: Sequence[str], resolution: str) -> int:
    mine = DeadLetter.credential_id.in_(credential_ids) & DeadLetter.resolved_at.is_null()
    return int(DeadLetter.update(resolved_at=time.time(), resolution=resolution).where(mine).execute())


def _resolve(write_ids: Sequence[int], resolution: str) -> None:
    DeadLetter.update(resolved_at=time.time(), resolution=resolution).where(
        DeadLetter.write.in_(write_ids), DeadLetter.resolved_at.is_null()
    ).execute()


def open_letters(limit: int | None = None) -> list[DeadLetter]:
    """The dead letters that nobody has resolved, oldest first."""
    return list(
        DeadLetter.select().where(DeadLetter.resolved_at.is_null()).order_by(DeadLetter.id).limit(limit)
    )


def open_among(letter_ids: Sequence[int]) -> list[DeadLetter]:
    """Those of these that nobody has resolved, oldest first."""
    query = DeadLetter.select().where(DeadLetter.resolved_at.is_null()).order_by(DeadLetter.id)
    return [letter for part in chunks(letter_ids) for letter in query.where(DeadLetter.id.in_(part))]


def find(name: str) -> DeadLetter:
    """The open dead letter of this id, or of this credential. Raises `UnknownDeadLetter`."""
    by_id = (
        (DeadLetter.id == int(name))
        if name.isdecimal() and len(name) < 19
        else (DeadLetter.credential_id == name)
    )
    letter: DeadLetter | None = (
        DeadLetter.select()
        .where(by_id | (DeadLetter.credential_id == name), DeadLetter.resolved_at.is_null())
        .order_by(DeadLetter.credential_id != name, DeadLetter.id.desc())
        .first()
    )
    if letter is None:
        raise UnknownDeadLetter(f"no open dead letter has the id or the credential {name!r}")
    return letter


@transaction
def discard(letter_id: int, *, actor: str = journal.PIPELINE) -> bool:
    """Resolve a dead letter without a replay; its write stays failed."""
    discarded = rows(
        DeadLetter.update(resolved_at=time.time(), resolution=journal.DISCARDED)
        .where(DeadLetter.id == letter_id, DeadLetter.resolved_at.is_null())
        .returning(DeadLetter.write, DeadLetter.job_id, DeadLetter.credential_id)
    )
    if discarded:
        journal.note(journal.DISCARDED, write_ids=[row[0] for row in discarded], actor=actor)
        transitions.tell("discarded", [(row[1], row[2]) for row in discarded])
    return bool(discarded)


def replayable_after_outage(limit: int) -> list[int]:
    """Writes whose last failure was no fault of theirs and that may be replayed by themselves.

    Less those that `requeue` leaves as they are, as their salt was erased: they would be here for ever.
    """
    with_salt = Write.select(Write.id).where(Write.id == DeadLetter.write, Write.salt.is_null(False))
    query = DeadLetter.select(DeadLetter.write).where(
        DeadLetter.resolved_at.is_null(), DeadLetter.replayable, pw.fn.EXISTS(with_salt)
    )
    return [row[0] for row in rows(query.order_by(DeadLetter.id).limit(limit))]


def causes_not_alerted(*, created_before: float, limit: int = 100) -> list[str]:
    """Causes of before that time for which no alert has arrived yet, nor was tried a moment ago."""
    tried = DeadLetter.alert_tried_at > time.time() - ALERT_AGAIN_SECONDS
    query = (
        DeadLetter.select(DeadLetter.cause_id)
        .where(
            DeadLetter.alerted_at.is_null(),
            DeadLetter.created_at < created_before,
            DeadLetter.alert_tried_at.is_null() | ~tried,
        )
        .distinct()
        .limit(limit)
    )
    return [row[0] for row in rows(query)]


def cause_of(cause_id: str) -> Cause | None:
    """What is to be reported of a cause; None when that has been done."""
    letters = DeadLetter.select().where(DeadLetter.cause_id == cause_id, DeadLetter.alerted_at.is_null())
    first: DeadLetter | None = letters.order_by(DeadLetter.id).first()
    if first is None:
        return None
    return Cause(
        id=cause_id,
        stage=first.stage,
        error=first.error,
        message=first.message,
        attempts=first.attempts,
        permanent=first.permanent,
        count=letters.count(),
        credential_id=first.credential_id,
        batch_id=first.batch_id,
    )


@transaction
def mark_alert_tried(cause_id: str) -> None:
    """Record that an alert was raised and has not arrived."""
    DeadLetter.update(alert_tried_at=time.time()).where(
        DeadLetter.cause_id == cause_id, DeadLetter.alerted_at.is_null()
    ).execute()


@transaction
def mark_alerted(cause_id: str) -> None:
    """Record that the alert for a cause has left."""
    DeadLetter.update(alerted_at=time.time()).where(
        DeadLetter.cause_id == cause_id, DeadLetter.alerted_at.is_null()
    ).execute()


def failures_with_messages(cause_id: str) -> list[tuple[str, str, str, str]]:
    """Job id, priority, error and message of a cause's writes that had a message of their own."""
    query = (
        DeadLetter.select(DeadLetter.job_id, Write.priority, DeadLetter.error, DeadLetter.message)
        .join(Write)
        .where(DeadLetter.cause_id == cause_id, Write.own_message)
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows(query)]

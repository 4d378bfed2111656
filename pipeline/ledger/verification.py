"""queued → verified: an attempt begins, and what passed joins the open batch of its lane.

As a database's group commit does, writes that are verified while a chain write waits for
its turn join the open batch. A partial unique index allows one open batch a lane; joining
and closing are serialised by the batch's row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import peewee as pw
from dramatiq.common import compute_backoff

from pipeline import transitions
from pipeline.database import harmless, is_sqlite, transaction
from pipeline.errors import PipelineError
from pipeline.ledger import dead_letters, journal, queueing, tallies
from pipeline.ledger.attempts import MAX_BACKOFF_MS, FailedAttempt, tell_delayed
from pipeline.ledger.bulk import insert_each, update_each
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import CHUNK, among, chunks, locked, plain_rows, rows, still, text_of
from pipeline.metrics.catalogue import RETRIED, SUCCEEDED
from pipeline.models import Batch, BatchState, Credential, State, Verification, Write

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


def join(
    checked: Sequence[int], unchecked: Sequence[int], *, lane: str, max_size: int, linger_seconds: float
) -> list[int]:
    """Put verified writes into batches of ``lane``; returns the batches that got their first member.

    ``checked`` had a document to be compared with, ``unchecked`` had none. Whoever puts the first
    member into a batch sends its ``chain_write`` message once this has returned.
    """
    made: list[int] = []
    for ids, document_checked in ((checked, True), (unchecked, False)):
        whole = len(ids) - len(ids) % max_size
        for part in chunks(ids[:whole], max_size * max(1, CHUNK // max_size)):
            made += _fill(list(part), document_checked=document_checked, lane=lane, size=max_size)
        for part in chunks(ids[whole:]):
            made += _join(
                list(part),
                document_checked=document_checked,
                lane=lane,
                max_size=max_size,
                linger_seconds=linger_seconds,
            )
    return made


@transaction
def _fill(ids: list[int], *, document_checked: bool, lane: str, size: int) -> list[int]:
    """Put writes into full batches of their own: nobody has to wait for the open one's row.

    Where some have moved on, the last batch has fewer.
    """
    queued = Write.select(Write.id, Write.job_id, Write.credential_id, Write.priority).where(
        among(Write.id, ids), still(Write.state, State.QUEUED)
    )
    found = plain_rows(locked(queued.order_by(Write.id)))
    groups = list(chunks([row[0] for row in found], size))
    if not groups:
        return []
    now = time.time()
    common = {**_new_batch(lane, now=now, due_at=now), "state": BatchState.FULL}
    del common["size"]
    made = insert_each(
        Batch,
        {Batch.size: [len(group) for group in groups]},
        {getattr(Batch, name): value for name, value in common.items()},
    )
    _put_into(made, groups, document_checked=document_checked, updated_at=now)
    _raise(lane, [(row[0], row[3]) for row in found])
    tallies.attempts(len(found), stage="hash_verify", outcome=SUCCEEDED)
    jobs = [(job_id, credential_id) for _, job_id, credential_id, _ in found]
    for batch_id, part in zip(made, chunks(jobs, size), strict=True):
        transitions.tell("verified", part, batch_id=batch_id)
    return made


def _put_into(batch_ids: Sequence[int], groups: Sequence[Sequence[int]], **values: Any) -> None:
    """Queued → verified for each group, in its batch."""
    values |= {"state": State.VERIFIED, "attempts": AT_LEAST_ONE}
    ids = [write_id for group in groups for write_id in group]
    batch_of = [batch_id for batch_id, group in zip(batch_ids, groups, strict=True) for _ in group]
    if not is_sqlite():
        update_each(Write, ids, {Write.batch: batch_of}, common=values)
        return
    for part in chunks(list(zip(ids, batch_of, strict=True))):
        mine = Write.id.in_([write_id for write_id, _ in part])
        found = {batch_id for _, batch_id in part}
        batch = pw.Case(Write.id, part) if len(found) > 1 else found.pop()
        Write.update(batch=batch, **values).where(mine).execute()


@transaction
def _join(
    ids: list[int], *, document_checked: bool, lane: str, max_size: int, linger_seconds: float
) -> list[int]:
    made: list[int] = []
    waiting = ids
    while waiting:
        batch = _lock_open(lane).fetchone() or _insert_open(lane, time.time(), time.time() + linger_seconds)
        if batch is None:
            continue
        batch_id, size = batch
        room = max(0, max_size - size)  # it may be from before the limit was lowered
        part, waiting = waiting[:room], waiting[room:]
        joined = _put_into_open(list(part), batch_id, document_checked, time.time()).fetchall()
        tallies.attempts(len(joined), stage="hash_verify", outcome=SUCCEEDED)
        if joined:
            transitions.tell("verified", [(row[0], row[1]) for row in joined], batch_id=batch_id)
        made += [batch_id] if joined and not size else []
        if size + len(joined) < max_size:
            _set_size(batch_id, size + len(joined))
        else:
            _fill_up(batch_id, size + len(joined), time.time())
        _raise(lane, [(row[2], row[3]) for row in joined])
    return made


def _raise(lane: str, joined: Sequence[tuple[int, str]]) -> None:
    """Whoever has made one of these urgent while it was verified has seen no batch to be made so.

    No message is needed: a batch that is ready has one, which takes the most urgent.
    """
    urgent = [write_id for write_id, priority in joined if priority == "urgent"]
    if urgent and lane != "urgent":
        queueing.make_urgent(urgent)


_put_into_open = Fixed(
    lambda ids, batch_id, document_checked, now: (
        Write.update(
            state=State.VERIFIED,
            attempts=AT_LEAST_ONE,
            batch=batch_id,
            document_checked=document_checked,
            updated_at=now,
        )
        .where(any_of(Write.id, ids), still(Write.state, State.QUEUED))
        .returning(Write.job_id, Write.credential_id, Write.id, Write.priority)
    )
)

_set_size = Fixed(lambda batch_id, size: Batch.update(size=size).where(Batch.id == batch_id))

_fill_up = Fixed(
    lambda batch_id, size, now: Batch.update(size=size, state=BatchState.FULL, due_at=now).where(
        Batch.id == batch_id
    )
)

_lock_open = Fixed(
    lambda lane: locked(
        Batch.select(Batch.id, Batch.size).where(Batch.lane == lane, Batch.state == BatchState.OPEN)
    )
)


def _insert_open(lane: str, now: float, due_at: float) -> tuple[int, int] | None:
    """Make an open batch and lock it; returns its id and size, or None: somebody else has just made one."""
    made = _insert_batch(lane, now, due_at).fetchone()
    return None if made is None else (made[0], 0)


_insert_batch = Fixed(
    lambda lane, now, due_at: (
        Batch.insert(_new_batch(lane, now=now, due_at=due_at)).on_conflict_ignore().returning(Batch.id)
    )
)


def _new_batch(lane: Any, *, now: Any, due_at: Any) -> dict[str, Any]:
    return {
        "lane": lane,
        "state": BatchState.OPEN,
        "size": 0,
        "created_at": now,
        "due_at": due_at,
        "sent_at": now,
        "retrying": False,
        "mock": False,
        "confirmations": 0,
    }

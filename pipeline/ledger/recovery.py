"""Rows whose message is gone: found by their age, claimed, and sent again in bounded chunks.

Claiming sets ``sent_at`` under a guard, so that two sweeps do not send the same row.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from pipeline.database import reading, transaction
from pipeline.ledger.sql import chunks, each_of, locked, rows
from pipeline.models import Batch, BatchState, State, Write

#: Writes that one sweep sends again.
WRITES_PER_SWEEP = 5000

#: Batches that one sweep sends again.
BATCHES_PER_SWEEP = 200


@transaction
def claim_writes(priority: str, *, sent_before: float, limit: int = WRITES_PER_SWEEP) -> list[int]:
    """Queued writes of ``priority`` that are due and whose message left before ``sent_before``.

    Those whose message left first, by the index ``writes_sent``: a sweep that finds none costs
    nothing, however many there are.
    """
    now = time.time()
    lost = (
        Write.select(Write.id)
        .where(
            Write.state == State.QUEUED,
            Write.priority == priority,
            Write.sent_at < sent_before,
            Write.due_at.is_null() | (Write.due_at <= now),
        )
        .order_by(Write.sent_at, Write.id)
        .limit(limit)
    )
    ids = sorted(row[0] for row in locked(lost).tuples())
    for mine in each_of(Write.id, ids):
        Write.update(sent_at=now).where(mine).execute()
    return ids


@transaction
def claim_batches(
    states: Sequence[str], *, sent_before: float, limit: int = BATCHES_PER_SWEEP
) -> list[tuple[int, str]]:
    """Id and lane of due batches in ``states`` whose message left before ``sent_before``, that one first."""
    now = time.time()
    lost = (
        Batch.select(Batch.id, Batch.lane)
        .where(
            Batch.state.in_(list(states)), Batch.sent_at < sent_before, Batch.due_at <= now, Batch.size > 0
        )
        .order_by(Batch.sent_at, Batch.id)
        .limit(limit)
    )
    found = list(locked(lost).tuples())
    Batch.update(sent_at=now).where(Batch.id.in_([row[0] for row in found])).execute()
    return found


@reading
def by_priority(write_ids: Sequence[int]) -> dict[str, list[int]]:
    """These writes by the priority at which their messages have to be sent."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for part in chunks(write_ids):
        query = Write.select(Write.priority, Write.id).where(Write.id.in_(part)).order_by(Write.id)
        for priority, write_id in rows(query):
            found[priority].append(write_id)
    return dict(found)


@reading
def jobs_of(write_ids: Sequence[int]) -> list[str]:
    """The job ids of these writes."""
    found: list[str] = []
    for part in chunks(write_ids):
        found += [row[0] for row in rows(Write.select(Write.job_id).where(Write.id.in_(part)))]
    return found


WAITING = BatchState.WAITING
SETTLED = (BatchState.SETTLED,)

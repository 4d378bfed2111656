"""queued → verified: what passed joins the open batch of its lane.

As a database's group commit does, writes that are verified while a chain write waits for
its turn join the open batch. A partial unique index allows one open batch a lane; joining
and closing are serialised by the batch's row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import peewee as pw

from pipeline import transitions
from pipeline.database import is_sqlite, transaction
from pipeline.ledger import queueing, tallies
from pipeline.ledger.bulk import insert_each, update_each
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import CHUNK, among, chunks, locked, plain_rows, still
from pipeline.ledger.verification import AT_LEAST_ONE
from pipeline.metrics.catalogue import SUCCEEDED
from pipeline.models import Batch, BatchState, State, Write


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

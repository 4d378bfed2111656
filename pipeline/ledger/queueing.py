"""What is handed in becomes a write: validated, de-duplicated, stored; all or nothing.

Identity is credential, hash and CID. The same again while it is pending or completed is
the same job; while it is failed it is a replay of that job; anything else of the credential
has to wait until the pending one is through (`ConflictingWrite`).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import peewee as pw

from pipeline.database import transaction
from pipeline.errors import ConflictingWrite, PipelineError, UnknownCredential
from pipeline.intake import WriteRequest
from pipeline.ledger import dead_letters, fresh, metadata
from pipeline.ledger.fixed import Fixed
from pipeline.ledger.sql import among, chunks, lock_credentials, rows, still
from pipeline.models import Batch, BatchState, State, Write

#: A request, and the id of its job if it becomes one.
Pair = tuple[WriteRequest, str]


class QueuedWrite(NamedTuple):
    """Where one request ended: its job, and whether a message has to be sent for it."""

    job_id: str
    credential_id: str
    write_id: int
    priority: str
    needs_message: bool
    duplicate: bool


def queue(
    requests: Sequence[WriteRequest],
    *,
    job_ids: Sequence[str] | None = None,
    own_message: bool = False,
    due_at: float | None = None,
) -> list[QueuedWrite]:
    """Store a write for each request, in one transaction; returns them in the same order.

    ``job_ids`` are used for the new ones (random UUIDs by default). Raises `UnknownCredential`
    and `ConflictingWrite`; then nothing is stored.
    """
    names = list(job_ids) if job_ids is not None else fresh.new_job_ids(len(requests))
    pairs = list(zip(requests, names, strict=True))
    alone = 0 < len(pairs) <= fresh.CHUNK
    queued = _queue_fresh(pairs, own_message, due_at) if alone else None
    return _queue(pairs, own_message, due_at, tried=alone) if queued is None else queued


def _queue_fresh(pairs: Sequence[Pair], own_message: bool, due_at: float | None) -> list[QueuedWrite] | None:
    requests, names = [request for request, _ in pairs], [job_id for _, job_id in pairs]
    ids = fresh.store(requests, names, own_message=own_message, due_at=due_at)
    if ids is None:
        return None
    return _queued(requests, names, ids)


def _queued(
    requests: Sequence[WriteRequest], job_ids: Sequence[str], ids: Sequence[int]
) -> list[QueuedWrite]:
    return [
        QueuedWrite(job_id, request.credential_id, write_id, request.priority, True, False)
        for request, job_id, write_id in zip(requests, job_ids, ids, strict=True)
    ]


def queue_in_parts(
    parts: Callable[[], Iterable[Sequence[WriteRequest]]],
) -> tuple[list[WriteRequest], list[QueuedWrite]] | None:
    """`queue` of all parts (`fresh.store_in_parts`), and their requests; None where that is not as simple."""
    stored = fresh.store_in_parts(parts)
    if stored is None:
        return None
    requests = [request for part, _, _ in stored for request in part]
    return requests, [write for part in stored for write in _queued(*part)]


@transaction
def _queue(
    pairs: Sequence[Pair], own_message: bool, due_at: float | None, *, tried: bool
) -> list[QueuedWrite]:
    """Whatever there is of these credentials already; ``tried``: it is known that they are not all fresh."""
    known = lock_credentials([request.credential_id for request, _ in pairs])
    for request, _ in pairs:
        if request.credential_id not in known:
            raise UnknownCredential(f"credential {request.credential_id!r}: there is no such credential")
    outcome: list[QueuedWrite] = []
    for part in chunks(pairs, fresh.CHUNK):
        queued = None if tried else _queue_fresh(part, own_message, due_at)
        if queued is None:
            queued = [
                write
                for some in chunks(part)
                for write in _queue_chunk(some, own_message=own_message, due_at=due_at)
            ]
        outcome += queued
    return outcome


@dataclass(slots=True)
class _Plan:
    """What one chunk leads to: rows to insert and to move; for each request its write, in order."""

    fresh: dict[str, dict[str, Any]] = field(default_factory=dict)
    replayed: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    urgent: list[int] = field(default_factory=list)
    found: list[tuple[Write, bool, bool]] = field(default_factory=list)

    def add(self, write: Write, row: dict[str, Any]) -> None:
        """A write that there was not."""
        self.fresh[write.job_id] = row
        self.found.append((write, True, False))

    def take(self, write: Write, priority: str) -> None:
        """A write that is there already, or comes earlier in the chunk."""
        again = write.state == State.FAILED
        raised = (
            priority == "urgent" and write.priority == "normal" and (again or write.state in State.PENDING)
        )
        if again:
            self.replayed.append(write.id)
            write.state = State.QUEUED
        if write.job_id not in self.fresh:
            self.repeated.append(write.id)
        if raised:
            write.priority = "urgent"
            self._raise(write)
        new = write.job_id in self.fresh
        self.found.append((write, (again or raised) and not new, True))

    def _raise(self, write: Write) -> None:
        if write.job_id in self.fresh:
            self.fresh[write.job_id]["priority"] = "urgent"
        else:
            self.urgent.append(write.id)


def _queue_chunk(part: Sequence[Pair], *, own_message: bool, due_at: float | None) -> list[QueuedWrite]:
    earlier = _earlier_writes([request.credential_id for request, _ in part])
    plan = _Plan()
    for request, job_id in part:
        match = _match(earlier[request.credential_id], request)
        if match is not None:
            plan.take(match, request.priority)
            continue
        row = _new_row(request, job_id, own_message=own_message, due_at=due_at)
        earlier[request.credential_id].append(Write(**row))
        plan.add(earlier[request.credential_id][-1], row)
    _insert(list(plan.fresh.values()))
    dead_letters.requeue(plan.replayed, resolution="queued again", due_at=due_at)
    dead_letters.supersede_others(plan.repeated)
    make_urgent(plan.urgent)
    _make_current(plan.repeated)
    if own_message and plan.repeated:
        Write.update(own_message=True).where(Write.id.in_(plan.repeated), ~Write.own_message).execute()
    ids = _ids_of([write.job_id for write, *_ in plan.found])
    return [
        QueuedWrite(
            write.job_id, write.credential_id, ids[write.job_id], write.priority, needs_message, duplicate
        )
        for write, needs_message, duplicate in plan.found
    ]


def _earlier_writes(credential_ids: Sequence[str]) -> defaultdict[str, list[Write]]:
    query = (
        Write.select(
            Write.id,
            Write.job_id,
            Write.credential_id,
            Write.data_hash,
            Write.ipfs_cid,
            Write.priority,
            Write.state,
        )
        # Without a leaf it is what is left of a message that could never become a write; one that has
        # failed and was erased has no salt to go out with: the same again is a new job.
        .where(
            among(Write.credential_id, list(set(credential_ids))),
            Write.leaf.is_null(False),
            (Write.state != State.FAILED) | Write.salt.is_null(False),
        )
        .order_by(Write.id)
    )
    by_credential: defaultdict[str, list[Write]] = defaultdict(list)
    for write in query:
        by_credential[write.credential_id].append(write)
    return by_credential


def _match(writes: Sequence[Write], request: WriteRequest) -> Write | None:
    """The write that already is this request's, or None. Raises `ConflictingWrite`."""
    same = [w for w in writes if (w.data_hash, w.ipfs_cid) == (request.data_hash, request.ipfs_cid)]
    match = same[-1] if same else None
    if match is not None and match.state != State.FAILED:
        return match
    pending = next((write for write in writes if write.state in State.PENDING), None)
    if pending is not None:
        raise ConflictingWrite(
            f"credential {request.credential_id!r}: job {pending.job_id} with data hash {pending.data_hash} "
            f"and CID {pending.ipfs_cid} is pending; {request.data_hash} with {request.ipfs_cid} must wait"
        )
    return match


def _new_row(
    request: WriteRequest, job_id: str, *, own_message: bool, due_at: float | None
) -> dict[str, Any]:
    salt = os.urandom(fresh.SALT_BYTES)
    now = time.time()
    return {
        "job_id": job_id,
        "credential_id": request.credential_id,
        "data_hash": request.data_hash,
        "ipfs_cid": request.ipfs_cid,
        "salt": salt,
        "leaf": fresh.leaf_of(request, salt),
        "priority": request.priority,
        "own_message": own_message,
        "state": State.QUEUED,
        "attempts": 0,
        "queued_at": now,
        "updated_at": now,
        "sent_at": due_at or now,
        "due_at": due_at,
    }


def _insert(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        dead_letters.supersede([row["credential_id"] for row in rows])
        Write.insert_many(rows).execute()
        metadata.mark_pending([row["credential_id"] for row in rows])


def make_urgent(write_ids: Sequence[int]) -> None:
    """Move writes, and the waiting batches that hold them, to the urgent lane."""
    if not write_ids:
        return
    waiting = Write.select(Write.batch).where(Write.id.in_(write_ids), still(Write.state, State.VERIFIED))
    batches = [row[0] for row in rows(waiting)]
    mine = Batch.id.in_(batches) & Batch.state.in_(BatchState.WAITING)
    Batch.update(lane="urgent", state=BatchState.FULL).where(mine).execute()
    # It lingers no longer; a retry's time stays.
    Batch.update(due_at=time.time()).where(mine, ~Batch.retrying).execute()
    Write.update(priority="urgent").where(
        Write.id.in_(write_ids), still(Write.state, *State.PENDING)
    ).execute()


def _make_current(write_ids: Sequence[int]) -> None:
    """What was asked for last is what status and metadata speak of: A, then B, then A again is A."""
    if not write_ids:
        return
    Write.update(requested_at=time.time()).where(Write.id.in_(write_ids)).execute()
    other = Write.alias()
    overtaken = other.select(other.id).where(
        other.credential_id == Write.credential_id, other.id > Write.id, other.leaf.is_null(False)
    )
    anchored = (
        Write.select(Write.credential_id, Batch.transaction_hash, Batch.block_number, Write.finished_at)
        .join(Batch)
        .where(Write.id.in_(write_ids), still(Write.state, State.CONFIRMED), pw.fn.EXISTS(overtaken))
    )
    for credential_id, transaction_hash, block_number, confirmed_at in rows(anchored):
        metadata.mark_confirmed(
            [credential_id],
            transaction_hash=transaction_hash,
            block_number=block_number,
            confirmed_at=confirmed_at,
        )


def _ids_of(job_ids: Sequence[str]) -> dict[str, int]:
    return dict(rows(Write.select(Write.job_id, Write.id).where(among(Write.job_id, job_ids))))


def find(job_id: str) -> int | None:
    """The write of this job."""
    found = _id_of(job_id).fetchone()
    return None if found is None else int(found[0])


_id_of = Fixed(lambda job_id: Write.select(Write.id).where(Write.job_id == job_id))


def find_all(job_ids: Sequence[str]) -> dict[str, int]:
    """The writes of those of these jobs that there are, by job."""
    found: dict[str, int] = {}
    for part in chunks(job_ids):
        found |= _ids_of(part)
    return found


def still_there(queued: Sequence[QueuedWrite]) -> list[QueuedWrite]:
    """Those that are stored: a savepoint that was rolled back has taken the others away."""
    found: set[str] = set()
    for part in chunks([write.job_id for write in queued]):
        found.update(_ids_of(part))
    return [write for write in queued if write.job_id in found]


def refuse(job_id: str, request: WriteRequest, error: PipelineError, *, stage: str) -> str | None:
    """A dead letter for a message whose content is in order, and that can not be queued now.

    It can be replayed. Returns the id of the cause; None when it has been recorded already.
    """
    row = _new_row(request, job_id, own_message=True, due_at=None)
    return dead_letters.bury_unheard(row, error, stage=stage)


def refuse_malformed(
    job_id: str, parts: Mapping[str, object], error: PipelineError, *, stage: str
) -> str | None:
    """The same for a message of which no write can be made: it can not be replayed."""
    now = time.time()
    row = {
        "job_id": job_id,
        "credential_id": _storable(parts.get("credential_id")),
        "data_hash": _storable(parts.get("data_hash")),
        "priority": "normal",
        "own_message": True,
        "queued_at": now,
        "sent_at": now,
    }
    return dead_letters.bury_unheard(row, error, stage=stage)


def _storable(value: object) -> str:
    """Whatever came, as text that both databases take: no NUL, no half of a surrogate pair."""
    text = str(value)[:255].encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")[:255]

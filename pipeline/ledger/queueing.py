"""What is handed in becomes a write: validated, de-duplicated, stored; all or nothing.

Identity is credential, hash and CID. The same again while it is pending or completed is
the same job; while it is failed it is a replay of that job; anything else of the credential
has to wait until the pending one is through (`ConflictingWrite`).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pipeline.database import transaction
from pipeline.errors import ConflictingWrite, UnknownCredential
from pipeline.intake import WriteRequest
from pipeline.ledger import dead_letters, metadata
from pipeline.ledger.sql import chunks, lock_credentials, rows
from pipeline.merkle import leaf_hash
from pipeline.models import Batch, BatchState, State, Write


@dataclass(frozen=True, slots=True)
class QueuedWrite:
    """Where one request ended: its job, and whether a message has to be sent for it."""

    job_id: str
    write_id: int
    priority: str
    needs_message: bool
    duplicate: bool


@transaction
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
    names = list(job_ids) if job_ids is not None else [str(uuid4()) for _ in requests]
    known = lock_credentials([request.credential_id for request in requests])
    for request in requests:
        if request.credential_id not in known:
            raise UnknownCredential(f"credential {request.credential_id!r}: there is no such credential")
    outcome: list[QueuedWrite] = []
    for part in chunks(list(zip(requests, names, strict=True))):
        outcome += _queue_chunk(part, own_message=own_message, due_at=due_at)
    return outcome


def _queue_chunk(
    part: Sequence[tuple[WriteRequest, str]], *, own_message: bool, due_at: float | None
) -> list[QueuedWrite]:
    earlier = _earlier_writes([request.credential_id for request, _ in part])
    fresh: list[dict[str, Any]] = []
    replayed: list[int] = []
    urgent: list[int] = []
    found: list[tuple[str, str, bool, bool]] = []
    for request, job_id in part:
        match = _match(earlier[request.credential_id], request)
        if match is None:
            row = _new_row(request, job_id, own_message=own_message, due_at=due_at)
            fresh.append(row)
            earlier[request.credential_id].append(Write(**row))
            found.append((job_id, request.priority, True, False))
            continue
        raised = request.priority == "urgent" and match.priority == "normal" and match.state in State.PENDING
        again = match.state == State.FAILED
        if again:
            replayed.append(match.id)
            match.state = State.QUEUED
        if raised or (again and request.priority == "urgent"):
            urgent.append(match.id)
            match.priority = "urgent"
        found.append((match.job_id, match.priority, again or raised, True))
    _insert(fresh)
    dead_letters.requeue(replayed, resolution="queued again")
    _make_urgent(urgent)
    ids = _ids_of([job_id for job_id, *_ in found])
    return [
        QueuedWrite(job_id, ids[job_id], priority, needs_message, duplicate)
        for job_id, priority, needs_message, duplicate in found
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
        .where(Write.credential_id.in_(list(set(credential_ids))))
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
    salt = os.urandom(32)
    now = time.time()
    leaf = leaf_hash(request.credential_id, bytes.fromhex(request.data_hash), request.ipfs_cid or "", salt)
    return {
        "job_id": job_id,
        "credential_id": request.credential_id,
        "data_hash": request.data_hash,
        "ipfs_cid": request.ipfs_cid,
        "salt": salt,
        "leaf": leaf,
        "priority": request.priority,
        "own_message": own_message,
        "state": State.QUEUED,
        "attempts": 0,
        "queued_at": now,
        "updated_at": now,
        "sent_at": now,
        "due_at": due_at,
    }


def _insert(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        Write.insert_many(rows).execute()
        metadata.mark_pending([row["credential_id"] for row in rows])


def _make_urgent(write_ids: Sequence[int]) -> None:
    """Move writes, and the waiting batches that hold them, to the urgent lane."""
    if not write_ids:
        return
    waiting = Write.select(Write.batch).where(Write.id.in_(write_ids), Write.state == State.VERIFIED)
    batches = [row[0] for row in rows(waiting)]
    Batch.update(lane="urgent", state=BatchState.FULL).where(
        Batch.id.in_(batches), Batch.state.in_(BatchState.WAITING)
    ).execute()
    Write.update(priority="urgent").where(Write.id.in_(write_ids), Write.state.in_(State.PENDING)).execute()


def _ids_of(job_ids: Sequence[str]) -> dict[str, int]:
    return dict(rows(Write.select(Write.job_id, Write.id).where(Write.job_id.in_(job_ids))))


def find(job_id: str) -> int | None:
    """The write of this job."""
    found = rows(Write.select(Write.id).where(Write.job_id == job_id))
    return found[0][0] if found else None

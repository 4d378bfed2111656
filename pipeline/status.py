"""What pollers see: the status document of a write, counts and lists, as `interface.md` fixes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import peewee as pw

from pipeline.database import reading
from pipeline.errors import UnknownCredential
from pipeline.ledger import control, incidents, trees
from pipeline.ledger import counts as ledger_counts
from pipeline.ledger.states import ACTIVE, COMPLETED, DELAYED, FAILED, WAITING
from pipeline.merkle import MerkleTree
from pipeline.models import Batch, BatchState, State, Write
from pipeline.settings import get_settings

#: Batches whose trees a process keeps, for lists: they come batch by batch.
TREES = 32

#: What tells why nothing is written at present; asked only for what waits to be written.
Hold = Callable[[], str | None]

#: What gives the Merkle proof of a batch's leaf.
Proof = Callable[[Any, bytes], list[bytes]]

#: Of one credential: what is on its way, then what was asked for last (a replay of an older job may be
#: newer). What is left of a message that could never become a write comes after all others.
NEWEST_FIRST = (
    Write.leaf.is_null(),
    Write.finished_at.is_null().desc(),
    pw.fn.COALESCE(Write.requested_at, Write.queued_at).desc(),
    Write.id.desc(),
)

#: What ``reason`` says besides a time or a number of confirmations, where nothing is wrong.
PAUSED, RATE_LIMIT, LINGER, IN_NO_BLOCK = "paused", "rate limit", "linger", "waiting for a block"

#: What ``reason`` begins with before a time, or a number of confirmations.
RETRY_AT, CONFIRMATIONS = "retry at ", "confirmations "

#: What ``reason`` says of an incident, the first that is under way.
INCIDENT_REASONS = {
    "StuckTransaction": "fee ceiling",
    "InsufficientFunds": "funds",
    "NotAnIssuer": "issuer role",
    "FeeCeiling": "fee ceiling",
    "WrongChain": "wrong chain",
    "ChainReset": "chain reset",
    "NoContract": "no contract",
    "SettingsError": "settings",
    "NodeUnreachable": "node unreachable",
}

#: Each state's rows, and the order in which a list has them, oldest first.
LISTS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "waiting": (WAITING, (Write.id,)),
    "active": (ACTIVE, (Write.id,)),
    "delayed": (DELAYED, (Write.id,)),
    "completed": (COMPLETED, (Write.finished_at, Write.id)),
    "failed": (FAILED, (Write.finished_at, Write.id)),
}


@reading
def status_of_credential(credential_id: str) -> dict[str, Any]:
    """The status of the credential's newest write, within 5 ms of a million. Raises `UnknownCredential`."""
    found = select().where(Write.credential_id == credential_id).order_by(*NEWEST_FIRST).first()
    if found is None:
        raise UnknownCredential(f"credential {credential_id!r}: nothing was ever queued for it")
    return _document(found, hold=hold_reason, proof=proof_of)


@reading
def status_of_job(job_id: str) -> dict[str, Any]:
    """The status of one job. Raises `LookupError`."""
    found = select().where(Write.job_id == job_id).first()
    if found is None:
        raise LookupError(f"there is no job {job_id!r}")
    return _document(found, hold=hold_reason, proof=proof_of)


def counts() -> dict[str, int]:
    """How many jobs are in each state."""
    return ledger_counts.read()


@reading
def jobs(state: str, start: int, end: int) -> list[dict[str, Any]]:
    """The jobs of one state from ``start`` up to but not including ``end``, oldest first.

    What comes before ``start`` is passed over in the list's index, 0.1 ms for each 1,000 jobs.
    """
    if start < 0 or end < start:
        raise ValueError(f"start {start} and end {end}: must be 0 <= start <= end")
    condition, order = LISTS[state]
    page = Write.select(Write.id).where(condition).order_by(*order).offset(start).limit(end - start)
    hold = cache(hold_reason)
    found = select().where(Write.id.in_(page)).order_by(*order)
    return [_document(write, hold=hold, proof=_proof_of_many) for write in found]


@reading
def results_of(write_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The results of those that are completed, by write id."""
    completed = select().where(Write.id.in_(list(write_ids)), Write.state == State.CONFIRMED)
    return {write.id: _result(write, _proof_of_many) for write in completed}


def select() -> Any:
    """Writes with their batches, as `status_of` and `reason_of` want them."""
    return Write.select(Write, Batch).join(Batch, pw.JOIN.LEFT_OUTER)


def _document(write: Any, *, hold: Hold, proof: Proof) -> dict[str, Any]:
    status = status_of(write)
    return {
        "job_id": write.job_id,
        "credential_id": write.credential_id,
        "data_hash": write.data_hash,
        "ipfs_cid": write.ipfs_cid,
        "priority": write.priority,
        "status": status,
        "reason": reason_of(write, status, hold),
        "attempts": write.attempts,
        "queued_at": iso(write.queued_at),
        "updated_at": iso(_updated_at(write)),
        "result": _result(write, proof) if status == "completed" else None,
        "error": _error(write) if status == "failed" else None,
    }


def _updated_at(write: Any) -> float:
    """When it last took a step; while it is in a batch, the batch's steps are its own."""
    submitted_at = write.batch.submitted_at if write.batch is not None else None
    return float(max(write.updated_at, submitted_at or 0.0))


def hold_reason() -> str | None:
    """Why nothing is written at present."""
    if control.is_paused():
        return PAUSED
    kinds = {incident.kind for incident in incidents.under_way()}
    return next((reason for kind, reason in INCIDENT_REASONS.items() if kind in kinds), None)


def status_of(write: Any) -> str:
    """The status of one write, whether it is purged or not."""
    if write.state == State.CONFIRMED:
        return "completed"
    if write.state == State.FAILED:
        return "failed"
    if write.due_at is not None:
        return "delayed"
    return "waiting" if write.state == State.QUEUED and write.attempts == 0 else "active"


def reason_of(write: Any, status: str, hold: Hold) -> str | None:
    """Why a pending write waits; ``hold`` is asked only for what waits for the chain."""
    if status == "delayed":
        return f"{RETRY_AT}{iso(write.due_at)}"
    if status != "active" or write.batch is None:
        return None
    if write.batch.state in BatchState.WAITING:
        return hold() or _why_not_written(write.batch)
    if write.batch.block_number is not None:
        wanted = get_settings().blockchain_confirmations
        seen = write.batch.confirmations
        return f"{CONFIRMATIONS}{seen if wanted == 'finalized' else min(seen, wanted)}/{wanted}"
    if write.batch.mock:
        return None
    held = hold()
    return held if held in ("funds", "fee ceiling", "node unreachable") else IN_NO_BLOCK


def _why_not_written(batch: Any) -> str:
    if batch.reason == "NodeUnreachable":
        return "node unreachable"
    lingers = batch.state == BatchState.OPEN and batch.due_at > time.time()
    return LINGER if lingers else RATE_LIMIT


def _result(write: Any, proof: Proof) -> dict[str, Any]:
    batch = write.batch
    leaf = bytes(write.leaf)
    return {
        "transaction_hash": batch.transaction_hash,
        "block_number": batch.block_number,
        "block_hash": batch.block_hash,
        "chain_id": batch.chain_id,
        "contract_address": batch.contract_address,
        "merkle_root": batch.merkle_root,
        "leaf": _hex(leaf),
        "leaf_salt": _hex(bytes(write.salt)) if write.salt is not None else None,
        "merkle_proof": [_hex(sibling) for sibling in proof(batch, leaf)],
        "batch_size": batch.size,
        "document_checked": bool(write.document_checked),
        "mock": bool(batch.mock),
    }


@lru_cache(maxsize=TREES)
def tree_of(batch_id: int) -> MerkleTree:
    """The Merkle tree over a submitted batch; its members do not change any more."""
    return trees.load(batch_id)


def proof_of(batch: Any, leaf: bytes) -> list[bytes]:
    """The Merkle proof of one leaf of a submitted batch."""
    found = trees.proof(batch, leaf)
    return tree_of(batch.id).proof(leaf) if found is None else found


def _proof_of_many(batch: Any, leaf: bytes) -> list[bytes]:
    """The same, where more of the same batch are asked for."""
    return proof_of(batch, leaf) if batch.size == 1 else tree_of(batch.id).proof(leaf)


def _error(write: Any) -> dict[str, Any]:
    return {
        "code": write.error_code,
        "message": write.error_message,
        "stage": write.error_stage,
        "permanent": bool(write.error_permanent),
    }


def iso(seconds: float) -> str:
    """Seconds since the epoch as ``2026-01-31T12:00:00.000Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()

"""What credential code calls: queue a write, ask for its status, see what the queue holds.

Everything here needs Redis and SQL, and neither a contract address nor a key.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline import status
from pipeline.actors import broker, hash_verify
from pipeline.database import database
from pipeline.errors import WriteFailed
from pipeline.queueing import queue_items

__all__ = [
    "get_active",
    "get_blockchain_write_status",
    "get_completed",
    "get_delayed",
    "get_failed",
    "get_job_counts",
    "get_waiting",
    "process_blockchain_async",
    "shutdown_blockchain_queue",
    "write_many_to_blockchain_queued",
    "write_to_blockchain",
    "write_to_blockchain_queued",
]

#: Seconds between two looks at a status that somebody waits for.
POLL_SECONDS = 0.1


def write_to_blockchain_queued(
    credential_id: str, data_hash: str, ipfs_cid: str | None = None, *, priority: str = "normal"
) -> str:
    """Queue the anchoring of a credential's hash; returns the job id at once.

    ``data_hash`` is the SHA-256 of the document's RFC 8785 form, 64 hex digits. The same again is
    the same job. Raises `InvalidInput` with its subclasses, `UnknownCredential`, `ConflictingWrite`.
    """
    message = hash_verify.send_with_options(args=(credential_id, data_hash, ipfs_cid), priority=priority)
    return str(message.message_id)


def write_many_to_blockchain_queued(
    items: Iterable[tuple[Any, ...] | Mapping[str, Any]], *, priority: str = "normal"
) -> list[str]:
    """Queue many, all or nothing; returns the job ids in the order of ``items``.

    An item is ``(credential_id, data_hash[, ipfs_cid[, priority]])`` or a mapping of those names.
    Raises as `write_to_blockchain_queued` does, naming the position.
    """
    return [queued.job_id for queued in queue_items(items, priority=priority)]


def write_to_blockchain(
    credential_id: str,
    data_hash: str,
    ipfs_cid: str | None = None,
    *,
    priority: str = "normal",
    timeout: float = 120,
) -> dict[str, Any]:
    """Queue a write and wait for its end; returns the status. For code of the old service only.

    ``timeout`` in seconds. Raises `WriteFailed`, and `TimeoutError` while it is still on its way.
    """
    _deprecated("write_to_blockchain", "write_to_blockchain_queued and get_blockchain_write_status")
    job_id = write_to_blockchain_queued(credential_id, data_hash, ipfs_cid, priority=priority)
    deadline = time.monotonic() + timeout
    while True:
        found = status.status_of_job(job_id)
        if found["status"] == "completed":
            return found
        if found["status"] == "failed":
            raise WriteFailed(f"{found['error']['code']}: {found['error']['message']}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"credential {credential_id!r}: {found['status']} after {timeout} s")
        time.sleep(POLL_SECONDS)  # the row is the truth, and is polled


def process_blockchain_async(
    credential_id: str, data_hash: str, ipfs_cid: str | None = None, *, priority: str = "normal"
) -> str:
    """The old service's name for `write_to_blockchain_queued`."""
    _deprecated("process_blockchain_async", "write_to_blockchain_queued")
    return write_to_blockchain_queued(credential_id, data_hash, ipfs_cid, priority=priority)


def get_blockchain_write_status(credential_id: str) -> dict[str, Any]:
    """The status document of the credential's newest write. Raises `UnknownCredential`."""
    return status.status_of_credential(credential_id)


def get_job_counts() -> dict[str, int]:
    """How many jobs are ``waiting``, ``active``, ``delayed``, ``completed`` and ``failed``."""
    return status.counts()


def get_waiting(start: int = 0, end: int = 100) -> list[dict[str, Any]]:
    """Status documents of jobs that nobody has touched yet, oldest first; ``end`` is exclusive."""
    return status.jobs("waiting", start, end)


def get_active(start: int = 0, end: int = 100) -> list[dict[str, Any]]:
    """Status documents of jobs under way, up to their confirmation."""
    return status.jobs("active", start, end)


def get_delayed(start: int = 0, end: int = 100) -> list[dict[str, Any]]:
    """Status documents of jobs that wait for their next attempt."""
    return status.jobs("delayed", start, end)


def get_completed(start: int = 0, end: int = 100) -> list[dict[str, Any]]:
    """Status documents of confirmed jobs that retention still keeps."""
    return status.jobs("completed", start, end)


def get_failed(start: int = 0, end: int = 100) -> list[dict[str, Any]]:
    """Status documents of failed jobs that retention still keeps."""
    return status.jobs("failed", start, end)


def shutdown_blockchain_queue() -> None:
    """Close the connections to Redis and the database; the next call opens new ones."""
    from pipeline import completion, events

    broker.close()
    events.close()
    completion.close_results()
    database.close_all()


def _deprecated(name: str, instead: str) -> None:
    warnings.warn(f"{name} is deprecated: use {instead}", DeprecationWarning, stacklevel=3)

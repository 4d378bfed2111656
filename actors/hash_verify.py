"""The first stage. `hash_verify.send(credential_id, data_hash, ipfs_cid)` is where a write begins."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage

from pipeline.broker import broker
from pipeline.middleware.retries import MAX_RETRIES, MIN_BACKOFF_MS
from pipeline.queueing_actor import QueueingActor


@dramatiq.actor(
    broker=broker,
    actor_class=QueueingActor,
    queue_name="hash_verify",
    priority=10,
    max_retries=MAX_RETRIES,
    min_backoff=MIN_BACKOFF_MS,
)
def hash_verify(credential_id: str, data_hash: str, ipfs_cid: str | None = None) -> None:
    """Compare the credential's document with the hash to be anchored, and join a batch."""
    from pipeline import queueing, verification

    message: Any = CurrentMessage.get_current_message()
    parts = {"credential_id": credential_id, "data_hash": data_hash, "ipfs_cid": ipfs_cid}
    verification.verify(queueing.adopt(message.message_id, parts))


@dramatiq.actor(
    broker=broker, queue_name="hash_verify", priority=10, max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS
)
def hash_verify_jobs(jobs: list[list[Any]]) -> None:
    """The same for what several such messages ask for: of each its id and its arguments."""
    from pipeline import queueing, verification

    verification.verify(queueing.adopt_all(jobs))


@dramatiq.actor(
    broker=broker, queue_name="hash_verify", priority=20, max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS
)
def hash_verify_many(write_ids: list[int]) -> None:
    """The same for a chunk of writes that were queued in bulk; each passes or fails alone."""
    from pipeline import verification

    verification.verify(write_ids)


@dramatiq.actor(
    broker=broker, queue_name="urgent", priority=3, max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS
)
def hash_verify_urgent(write_ids: list[int]) -> None:
    """The same for urgent ones: in a worker's memory an actor's priority decides, not a queue's."""
    from pipeline import verification

    verification.verify(write_ids)

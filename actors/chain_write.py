"""The second stage: a permit to write what is ready, the most urgent first."""

from __future__ import annotations

import dramatiq

from pipeline.broker import broker
from pipeline.middleware.retries import MAX_RETRIES, MIN_BACKOFF_MS


def a_batch_is_ready() -> bool:
    """Whether there is something to write, and nothing against it."""
    from pipeline.ready import is_any_ready

    return is_any_ready()


@dramatiq.actor(
    broker=broker,
    queue_name="chain_write",
    priority=5,
    max_retries=MAX_RETRIES,
    min_backoff=MIN_BACKOFF_MS,
    rate_limit_when=a_batch_is_ready,
)
def chain_write() -> None:
    """Anchor Merkle roots while any is ready: guards, a rate slot, the stored intent, the bytes."""
    from pipeline import chain_writing

    chain_writing.write_ready()

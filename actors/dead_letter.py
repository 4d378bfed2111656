"""Raises the alert for what has failed for good; the ledger has recorded it already."""

from __future__ import annotations

import dramatiq

from pipeline.broker import broker
from pipeline.middleware.retries import MAX_RETRIES, MIN_BACKOFF_MS


@dramatiq.actor(
    broker=broker, queue_name="dead_letter", priority=15, max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS
)
def dead_letter(cause_id: str) -> None:
    """One alert for a cause, however many credentials it took."""
    from pipeline import burial

    burial.alert(cause_id)

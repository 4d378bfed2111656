"""The last stage: the credentials' rows say ``confirmed``."""

from __future__ import annotations

import dramatiq

from pipeline.broker import broker
from pipeline.middleware.retries import MAX_RETRIES, MIN_BACKOFF_MS


@dramatiq.actor(
    broker=broker, queue_name="db_update", priority=0, max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS
)
def db_update(batch_ids: int | list[int]) -> None:
    """Confirm all members of a settled batch, or of several."""
    from pipeline import completion

    completion.complete_many([batch_ids] if isinstance(batch_ids, int) else batch_ids)

"""Retention: what is old leaves counts and lists."""

from __future__ import annotations

import dramatiq
from periodiq import cron

from pipeline.broker import broker

SCHEDULE = "*/10 * * * *"


@dramatiq.actor(broker=broker, queue_name="sweeps", priority=30, max_retries=0, periodic=cron(SCHEDULE))
def purge() -> None:
    """Purge completed jobs after a day or beyond the newest thousand, failed ones after a week."""
    from pipeline import monitor, retention

    with monitor.checked_in(monitor.PURGE, SCHEDULE):
        retention.purge()

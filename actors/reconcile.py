"""Finds what has lost its message, and sends it again."""

from __future__ import annotations

import dramatiq
from periodiq import cron

from pipeline.broker import broker


@dramatiq.actor(broker=broker, queue_name="sweeps", priority=2, max_retries=0, periodic=cron("* * * * *"))
def reconcile() -> None:
    """One sweep over rows that wait for a message; the ticker runs it every two seconds."""
    from pipeline import reconciliation

    reconciliation.reconcile()

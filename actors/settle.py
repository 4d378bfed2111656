"""The third stage: what became of the transactions that are out."""

from __future__ import annotations

import dramatiq
from periodiq import cron

from pipeline.broker import broker


@dramatiq.actor(broker=broker, queue_name="sweeps", priority=1, max_retries=0, periodic=cron("* * * * *"))
def settle() -> None:
    """One sweep over the unsettled transactions; the ticker runs it every two seconds."""
    from pipeline import settlement

    settlement.settle()

"""The third stage: what became of the transactions that are out."""

from __future__ import annotations

import dramatiq
from periodiq import cron

from pipeline.broker import broker


@dramatiq.actor(broker=broker, queue_name="sweeps", priority=1, max_retries=0, periodic=cron("* * * * *"))
def settle(by_writer: bool = False) -> None:
    """One sweep over the unsettled transactions; the ticker runs it every two seconds.

    ``by_writer``: who writes has asked for it, and goes on writing.
    """
    from pipeline import settlement

    settlement.settle(by_writer=by_writer)

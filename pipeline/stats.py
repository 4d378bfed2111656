"""``stats``: the counts, and what they are made of."""

from __future__ import annotations

from typing import Any

from pipeline import status
from pipeline.ledger import control, gauges, history, incidents, under_way
from pipeline.models import Batch, BatchState
from pipeline.settings import get_settings


def stats() -> dict[str, Any]:
    """The five counts, paused or not, totals since the ledger began, and rates of the last minutes."""
    anchored = Batch.select().where(Batch.state == BatchState.CONFIRMED)
    return {
        **status.counts(),
        "rates": history.rates(),
        "paused": control.is_paused(),
        "held": status.hold_reason(),
        "batches_confirmed": anchored.count(),
        "transactions_unmined": under_way.in_flight(get_settings().blockchain_chain_id).count,
        "dead_letters": gauges.open_dead_letters(),
        "incidents": [incident.message for incident in incidents.under_way()],
    }

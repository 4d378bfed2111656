"""``stats``: the counts, and what they are made of."""

from __future__ import annotations

from typing import Any

from pipeline import status
from pipeline.ledger import batches, control, dead_letters
from pipeline.models import Batch, BatchState


def stats() -> dict[str, Any]:
    """The five counts, paused or not, and totals since the ledger began."""
    anchored = Batch.select().where(Batch.state == BatchState.CONFIRMED)
    return {
        **status.counts(),
        "paused": control.is_paused(),
        "batches_confirmed": anchored.count(),
        "transactions_unmined": batches.unmined_count(),
        "dead_letters": len(dead_letters.open_letters()),
    }

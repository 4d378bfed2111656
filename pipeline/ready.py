"""Which batches may be written now: nothing holds them, and not too many transactions are in flight."""

from __future__ import annotations

from pipeline.chain.client import chain_client
from pipeline.ledger import batches
from pipeline.ledger.batches import Ready
from pipeline.settings import get_settings


def batches_ready(limit: int, room: int | None = None) -> list[Ready]:
    """At most so many, the most urgent first; ``room``: how many more may be in flight, if that is known."""
    settings = get_settings()
    if settings.blockchain_mock_enabled:
        return batches.ready(limit)
    if room is not None:
        return batches.ready(min(limit, room)) if room > 0 else []
    return batches.ready(
        limit,
        settings.blockchain_max_in_flight,
        settings.blockchain_chain_id,
        chain_client().signer_address,
    )


def is_any_ready() -> bool:
    """Whether there is one."""
    return bool(batches_ready(1))

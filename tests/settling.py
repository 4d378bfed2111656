"""The three stages called by hand, one after the other, on the chain of this process's settings."""

from __future__ import annotations

from typing import Any

from pipeline import chain_writing, verification
from pipeline.completion import complete
from pipeline.models import Batch, BatchState, State, Write
from pipeline.settings import get_settings
from pipeline.settlement import settle
from tests.issuer import queue_documents


def write(count: int, *, start: int = 0) -> None:
    """Queue, verify and send that many."""
    queue_documents(count, start=start)
    verification.verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])
    while chain_writing.write_next():
        pass


def settle_and_complete() -> None:
    """One sweep, and what follows from it."""
    settle()
    for batch in list(Batch.select().where(Batch.state == BatchState.SETTLED)):
        complete(batch.id)


def confirmed() -> int:
    """How many are confirmed."""
    return Write.select().where(Write.state == State.CONFIRMED).count()


def chain_settings() -> dict[str, Any]:
    """This process's settings of the chain."""
    found = get_settings()
    key = found.blockchain_private_key
    assert key is not None
    return {
        "blockchain_chain_id": found.blockchain_chain_id,
        "blockchain_contract_address": found.blockchain_contract_address,
        "blockchain_private_key": key.get_secret_value(),
    }

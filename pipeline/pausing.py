"""Chain writing stops and goes on, at somebody's word; intake does not stop."""

from __future__ import annotations

from pipeline import messages
from pipeline.ledger.control import set_paused


def pause(actor: str) -> None:
    """Stop chain writing."""
    set_paused(True, actor=actor)


def resume(actor: str) -> None:
    """Let chain writing go on, at once. The actors have to be loaded."""
    set_paused(False, actor=actor)
    messages.write("normal")

"""Promise: in whatever order messages, crashes, reorgs and outages come, each credential ends on the
chain once, or failed, and the ledger says which."""

from __future__ import annotations

from tests.model.machine import Pipeline
from tests.model.running import run
from tests.model.world import worlds

#: Runs: as many as CI has time for, and as many as a minute or two allow.
USUAL, FULL = 15, 400


def test_the_model_holds(sqlite_url: str, full_size: bool) -> None:
    """The pipeline's own code, step by step, with the world against it."""
    with worlds(sqlite_url) as Pipeline.new_world:
        run(FULL if full_size else USUAL)

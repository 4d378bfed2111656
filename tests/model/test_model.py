"""Promise: in whatever order messages, crashes, reorgs and outages come, each credential ends on the
chain once, or failed, and the ledger says which."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Pipeline
from tests.model.world import worlds

#: Runs, and steps in each: as many as CI has time for, and as many as are worth an hour.
USUAL, FULL = 25, 20_000
STEPS = 40


def test_the_model_holds(sqlite_url: str, full_size: bool) -> None:
    """The pipeline's own code, step by step, with the world against it."""
    with worlds(sqlite_url) as Pipeline.new_world:
        run_state_machine_as_test(
            Pipeline,
            settings=settings(
                max_examples=FULL if full_size else USUAL,
                stateful_step_count=STEPS,
                deadline=None,
                phases=[Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

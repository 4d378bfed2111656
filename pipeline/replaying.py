"""Failed writes that go out once more: by a person, or by themselves once an outage is over."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import events, messages
from pipeline.completion import forget_results
from pipeline.ledger import dead_letters, journal, recovery


def replay(write_ids: Sequence[int], *, resolution: str, actor: str = journal.PIPELINE) -> int:
    """Queue those again that are failed, each at its own priority; returns how many that were."""
    moved = dead_letters.requeue(write_ids, resolution=resolution, actor=actor)
    forget_results(recovery.jobs_of(moved))  # the old failure is not what anybody waits for
    messages.verify_again(moved)
    events.publish()
    return len(moved)

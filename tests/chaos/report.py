"""What a run has shown: how often credentials are anchored, which faults came, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.models import Batch, BatchState, State, Write
from tests.chaos.running import Run


def summary(run: Run, seconds: float, cpu_seconds: float) -> Iterator[str]:
    """The lines of the summary."""
    times = Counter(
        row[0]
        for row in Write.select(Write.credential_id)
        .join(Batch)
        .where(Write.state == State.CONFIRMED, Batch.state == BatchState.CONFIRMED)
        .tuples()
    )
    dead = Write.select(Write.credential_id).where(Write.state == State.FAILED, Write.leaf.is_null(False))
    failed = {row[0] for row in dead.tuples()}
    wrong = run.intake.wrong
    once = sum(count == 1 for count in times.values())
    never = len(set(run.intake.accepted) - set(times) - failed)
    yield f"{len(run.intake.accepted)} accepted: {once} once, {len(times) - once} twice, {never} never"
    yield f"failed: {len(failed & wrong)} with a wrong hash, {len(failed - wrong)} with a right one"
    yield f"intake was refused {run.intake.refusals} times, and repeated it"
    restarts = sum(master.restarts for master in run.site.masters)
    yield f"{Batch.select().count()} batches; {restarts} restarts of workers"
    for kind, count in sorted(Counter(happened.planned.kind for happened in run.timeline).items()):
        yield f"{count:5} {kind}"
    idle = sum(happened.handed_in == happened.settled for happened in run.timeline)
    yield f"{idle:5} of them began while nothing was under way"
    yield f"{len(run.timeline):5} faults, {seconds:.1f} s, {cpu_seconds:.1f} s of CPU"


def timeline(run: Run) -> Iterator[str]:
    """The faults in order, with the progress at which each came."""
    for happened in run.timeline:
        progress = f"{happened.handed_in} handed in, {happened.settled} settled"
        what = f"{happened.planned.kind} ({happened.detail})"
        yield f"{happened.planned.number:4} {happened.seconds:7.1f} s  {progress}: {what}"

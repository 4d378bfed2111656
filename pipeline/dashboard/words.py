"""What the overview says in a sentence: how it is, and since when each sweep is alive."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.dashboard.data import why
from pipeline.dashboard.data.pulse import Pulse
from pipeline.dashboard.rendering import ago, clock, number

#: A sweep that did not end well for longer is bad; seconds. They run every two seconds while a worker
#: lives, the purge every ten minutes, and the scheduler sends something every minute.
SWEEP_SECONDS, PURGE_SECONDS, SCHEDULER_SECONDS = 30.0, 1800.0, 180.0


#: What to do when one is late.
MENDED_BY = {
    "Settle sweep": "The workers' log says why.",
    "Reconcile sweep": "The workers' log says why.",
    "Scheduler": "Is periodiq running?",
    "Purge": "Is periodiq running, and what does the workers' log say?",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A sentence about the whole, and lines below it. ``mood``: "fine", "held" or "bad"."""

    mood: str
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """One thing that has to happen again and again."""

    name: str
    text: str
    fine: bool


def about(pulse: Pulse, counts: Mapping[str, int], letters: int) -> Word:
    """How it is: what holds everything first, then what needs somebody, else what is under way.

    ``letters``: how many dead letters are open.
    """
    troubles = tuple(_troubles(pulse))
    if not _is_fresh(pulse.last_settle, SWEEP_SECONDS) and not _is_fresh(pulse.last_reconcile, SWEEP_SECONDS):
        return Word("bad", "No worker is alive", ("What is queued waits until one starts.", *troubles))
    if pulse.pause is not None:
        by = f" by {pulse.pause.actor}" if pulse.pause.actor else ""
        since = f" since {clock(pulse.pause.since)} UTC"
        return Word("held", f"Paused{by}{since}", ("Intake goes on; nothing is written.", *troubles))
    if pulse.held is not None:
        found = why.explain("active", pulse.held)
        lines = (found.action, *troubles) if found else troubles
        return Word("bad", found.sentence if found else f"Held: {pulse.held}", lines)
    if troubles:
        return Word("bad", "Something needs somebody", troubles)
    mood = "held" if letters else "fine"
    pending = counts["waiting"] + counts["active"] + counts["delayed"]
    if pending:
        return Word(mood, f"At work: {number(pending)} on their way")
    return Word(mood, "Nothing is on its way" if letters else "All is well, and nothing waits")


def _troubles(pulse: Pulse) -> Iterator[str]:
    """What is not as it should be, besides that no worker is alive."""
    for trouble in pulse.incidents:
        yield f"{trouble.message} (since {clock(trouble.opened_at)} UTC)"
    if not pulse.redis:
        yield "Redis does not answer. What is queued is in SQL, and goes out when it is back."
    late = [beat.name for beat in beats(pulse) if not beat.fine and beat.name in MENDED_BY]
    for name in late:
        yield f"{name}: late. {MENDED_BY[name]}"


def beats(pulse: Pulse) -> list[Beat]:
    """Each with whether it is late."""
    workers = pulse.workers or 0
    return [
        Beat(
            "Workers",
            f"{workers} process{'' if workers == 1 else 'es'}" if pulse.redis else "not known",
            workers > 0,
        ),
        _beat("Settle sweep", pulse.last_settle, SWEEP_SECONDS),
        _beat("Reconcile sweep", pulse.last_reconcile, SWEEP_SECONDS),
        _seldom("Scheduler", pulse.scheduler_seen, SCHEDULER_SECONDS, pulse.since),
        _seldom("Purge", pulse.last_purge, PURGE_SECONDS, pulse.since),
        Beat("Redis", "answers" if pulse.redis else "does not answer", pulse.redis),
    ]


def _beat(name: str, last: float | None, late_after_seconds: float) -> Beat:
    return Beat(name, ago(last), _is_fresh(last, late_after_seconds))


def _seldom(name: str, last: float | None, late_after_seconds: float, since: float | None) -> Beat:
    """The same of what need not have been yet where workers have begun a moment ago."""
    if last is None and _is_fresh(since, late_after_seconds):
        return Beat(name, "not yet", fine=True)
    return _beat(name, last, late_after_seconds)


def _is_fresh(last: float | None, seconds: float) -> bool:
    return last is not None and time.time() - last < seconds

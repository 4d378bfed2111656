"""A row a minute, for plots of the last days; and rates.

A sweep writes the row within seconds of the minute's end. One that comes late fills the minute after
the newest row, in which the workers stopped, and those of the last ten: what ended in them is known,
what waited at their end is not. What is older is a gap: no worker has run, and nothing ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil

from peewee import fn

from pipeline.database import reading, transaction
from pipeline.ledger import counts, gauges
from pipeline.ledger.sql import rows
from pipeline.models import Sample as Row
from pipeline.models import State, Write

MINUTE_SECONDS = 60

#: What ended in a minute may be committed a little later.
GRACE_SECONDS = 3.0

#: Minutes back that are filled when none was written.
LATE_MINUTES = 10

#: For how long rows are kept, and how many are deleted at once.
KEPT_SECONDS = 8 * 86_400
DELETED_AT_ONCE = 100

#: Of the latencies of a minute.
PERCENTILES = (50, 95, 99)

#: Minutes over which rates are told.
WINDOWS_MINUTES = (1, 5, 60)


@dataclass(frozen=True, slots=True)
class Sample:
    """``minute``: its begin, in seconds since the epoch. What is not known is None.

    Latencies are those from queued to confirmed of what was completed in it; what waited is that of
    its end.
    """

    minute: int
    completed: int
    failed: int
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None
    oldest_pending_seconds: float | None
    waiting: int | None
    active: int | None
    delayed: int | None


COLUMNS = [getattr(Row, name) for name in Sample.__slots__]


def record(now: float) -> None:
    """Write the rows of the minutes that are over, and delete the oldest; harmless when run twice."""
    last = int(now - GRACE_SECONDS) // MINUTE_SECONDS * MINUTE_SECONDS - MINUTE_SECONDS
    newest = _newest(until=last)
    if newest is not None and newest >= last:
        return
    for minute in _missing(newest, last):
        _insert(minute, with_depth=minute == last)
    _forget(before=last - KEPT_SECONDS)


def _missing(newest: int | None, last: int) -> list[int]:
    """The minutes after ``newest``, up to ``last``, that are to be written; the first is `last` itself."""
    if newest is None:
        return [last]
    next_ = newest + MINUTE_SECONDS
    late = range(last - (LATE_MINUTES - 1) * MINUTE_SECONDS, last + 1, MINUTE_SECONDS)
    return sorted({next_, *(minute for minute in late if minute > next_)})


@reading
def read(since: float) -> list[Sample]:
    """The minutes that begin at ``since`` (seconds since the epoch) or later, oldest first."""
    query = Row.select(*COLUMNS).where(Row.minute >= since).order_by(Row.minute)
    return [Sample(*row) for row in rows(query)]


def rates(now: float | None = None) -> dict[str, dict[str, float]]:
    """What was completed and has failed a minute, over the last minutes: 1, 5 and 60 (the keys)."""
    until = time.time() if now is None else now
    found = {minutes: _ended_since(until - minutes * MINUTE_SECONDS, until) for minutes in WINDOWS_MINUTES}
    return {
        name: {str(minutes): round(ended[place] / minutes, 3) for minutes, ended in found.items()}
        for place, name in enumerate(("completed_per_minute", "failed_per_minute"))
    }


def _ended_since(begin: float, end: float) -> tuple[int, int]:
    """How many were completed, and have failed: whole minutes from their rows, the rest from the index."""
    first = ceil(begin / MINUTE_SECONDS) * MINUTE_SECONDS
    samples = [row for row in read(first) if row.minute + MINUTE_SECONDS <= end]
    if not samples:
        return _ended(State.CONFIRMED, begin, end), _ended(State.FAILED, begin, end)
    # Before the first row, and in what is missing between, nobody was there to end anything.
    edges = [(begin, samples[0].minute), (samples[-1].minute + MINUTE_SECONDS, end)]
    return (
        sum(row.completed for row in samples) + sum(_ended(State.CONFIRMED, *edge) for edge in edges),
        sum(row.failed for row in samples) + sum(_ended(State.FAILED, *edge) for edge in edges),
    )


@reading
def _newest(*, until: int) -> int | None:
    """A clock that was ahead has left later ones: they are not waited for."""
    newest = rows(Row.select(Row.minute).where(Row.minute <= until).order_by(Row.minute.desc()).limit(1))
    return int(newest[0][0]) if newest else None


@transaction
def _insert(minute: int, *, with_depth: bool) -> None:
    end = minute + MINUTE_SECONDS
    row = {
        "minute": minute,
        "completed": _ended(State.CONFIRMED, minute, end),
        "failed": _ended(State.FAILED, minute, end),
        **_latencies(minute, end),
        **(_depth() if with_depth else {}),
    }
    Row.insert(row).on_conflict_ignore().execute()


@reading
def _ended(state: str, begin: float, end: float) -> int:
    """How many came to that end from ``begin`` on and before ``end``."""
    mine = (Write.state == state) & (Write.finished_at >= begin) & (Write.finished_at < end)
    return int(Write.select(fn.COUNT(Write.finished_at)).where(mine).scalar())


def _latencies(begin: float, end: float) -> dict[str, float | None]:
    """The nearest-rank percentiles of what was completed then."""
    seconds = Write.finished_at - Write.queued_at
    mine = (Write.state == State.CONFIRMED) & (Write.finished_at >= begin) & (Write.finished_at < end)
    found = [row[0] for row in rows(Write.select(seconds).where(mine).order_by(seconds))]
    return {f"latency_p{percent}_seconds": _rank(found, percent) for percent in PERCENTILES}


def _rank(ordered: list[float], percent: int) -> float | None:
    return ordered[ceil(len(ordered) * percent / 100) - 1] if ordered else None


def _depth() -> dict[str, float]:
    found = counts.read()
    depth = {state: found[state] for state in ("waiting", "active", "delayed")}
    # What is delayed waits for its time, and for nothing that might be wrong.
    oldest = max(gauges.oldest_seconds("waiting"), gauges.oldest_seconds("active"))
    return {**depth, "oldest_pending_seconds": oldest}


@transaction
def _forget(*, before: float) -> None:
    oldest = Row.select(Row.minute).where(Row.minute < before).order_by(Row.minute)
    minutes = [row[0] for row in rows(oldest.limit(DELETED_AT_ONCE))]
    Row.delete().where(Row.minute.in_(minutes)).execute()

"""What this process has counted and not yet delivered: no I/O, threads may share it.

`pipeline.metrics.shared` takes it away every few seconds, in worker processes only. Elsewhere it
stays, and is no larger than there are series.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.metrics.catalogue import Counter, Histogram, Metric

#: A metric's name, the values of its labels and, of a histogram, which part of it: the upper bound of
#: a bucket, which counts what is in no lower one, or `SUM`.
Field = tuple[str, ...]

INFINITE, SUM = "+Inf", "sum"


class Recorder:
    """Sums by field, since they were last taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: Tally[Field] = Tally()

    def add(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._sums[series(metric, labels)] += amount  # type: ignore[assignment]  # of float as well

    def observe(self, metric: Histogram, values: Iterable[float], **labels: str) -> None:
        """Add observations to a histogram."""
        values = list(values)
        bounds = [*map(bound_text, metric.buckets), INFINITE]
        found = Tally(bounds[bisect_left(metric.buckets, value)] for value in values)
        of = series(metric, labels)
        with self._lock:
            for bound, count in found.items():
                self._sums[*of, bound] += count
            self._sums[*of, SUM] += sum(values)  # type: ignore[assignment]

    def take(self) -> dict[Field, float]:
        """The sums; from now on they begin at nothing."""
        with self._lock:
            taken, self._sums = self._sums, Tally()
        return dict(taken)


def series(metric: Metric, labels: dict[str, str]) -> Field:
    """The name and the labels' values in order. Raises `ValueError` for labels that it has not."""
    if labels.keys() != set(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
    return (metric.name, *(labels[name] for name in metric.labels))


def bound_text(bound: float) -> str:
    """An upper bound as Prometheus writes it."""
    return str(float(bound))


_recorder = Recorder()
add, observe, take = _recorder.add, _recorder.observe, _recorder.take


@contextmanager
def timed(metric: Histogram, **labels: str) -> Iterator[None]:
    """Observe how many seconds the block takes, however it ends."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        observe(metric, [time.perf_counter() - begin], **labels)

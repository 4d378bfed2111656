"""Medians with their spread, and whether they are what is to be reached."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: ``median``, ``min`` and ``max``.
Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread | None:
    """Rounded to three digits, whole numbers to none: what is compared is what is shown. None of nothing."""
    if not values:
        return None
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: rounded(value) for name, value in found.items()}


def rounded(value: float) -> float:
    """Three digits, and all of those before the point."""
    return float(round(value)) if abs(value) >= 1000 else float(f"{value:.3g}")


@dataclass(frozen=True)
class Target:
    """At least or at most a number: of ours, or (``times_peer``) of ours divided by the peer's.

    The median has to reach it, or (``always``) each round.
    """

    sign: str
    number: float
    times_peer: bool = False
    always: bool = False

    def __str__(self) -> str:
        number = f"{self.number:,g}" + (" ×" if self.times_peer else "")
        sign = f"{self.sign} " if self.number else ""  # nothing is less than none
        return f"{sign}{number}" + (", always" if self.always else "")

    def reached(self, ours: Spread | None, ratio: Spread | None) -> bool | None:
        """None where it was not measured."""
        found = ratio if self.times_peer else ours
        if found is None:
            return None
        if self.sign == "≥":
            return found["min" if self.always else "median"] >= self.number
        return found["max" if self.always else "median"] <= self.number


def at_least(number: float, *, times_peer: bool = False, always: bool = False) -> Target:
    """``≥``."""
    return Target("≥", number, times_peer, always)


def at_most(number: float, *, times_peer: bool = False, always: bool = False) -> Target:
    """``≤``."""
    return Target("≤", number, times_peer, always)


def busiest(times: Sequence[float]) -> int:
    """How many of these times are in the fullest second, wherever it begins."""
    ordered = sorted(times)
    most = first = 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def longest_gap(times: Sequence[float], begin: float) -> float:
    """The longest time without an event, in seconds, from ``begin`` to the last of ``times``."""
    later = [begin, *sorted(time for time in times if time > begin)]
    return max((after - before for before, after in itertools.pairwise(later)), default=0.0)

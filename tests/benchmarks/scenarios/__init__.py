"""What is measured beside a peer: a scenario a file, and what all of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.peer import Peer
from tests.benchmarks.site import Site

#: Figures by the name of their measure.
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Measure:
    """One figure of a scenario. ``more_is_better``: a rate, else a cost."""

    name: str
    more_is_better: bool

    @property
    def to_reach(self) -> str:
        """The ratio, ours to theirs, with which nobody loses by moving here."""
        return "≥ 1" if self.more_is_better else "≤ 1"


@dataclass(frozen=True)
class Scenario:
    """Both sides of one comparison, each given how many credentials."""

    name: str
    measures: tuple[Measure, ...]
    ours: Callable[[Site, int], Figures]
    theirs: Callable[[Peer, int], Figures]

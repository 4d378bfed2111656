"""What is measured beside a peer: a scenario a file, and what all of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.peer import Peer
from tests.benchmarks.site import Site
from tests.benchmarks.targets import Target

#: Figures by the name of their measure.
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Measure:
    """One figure of a scenario, and what it is to reach.

    ``divided``: ours by theirs means something; of counts that ought to be 0 it does not.
    ``point``: where in the plot it is: the name of the axis, and the place on it.
    """

    name: str
    target: Target | None = None
    divided: bool = True
    point: tuple[str, int] | None = None


@dataclass(frozen=True)
class Scenario:
    """Both sides of one comparison, each given how many credentials. Not every figure has a peer's.

    ``seconds``: what a round of ours and of the peer's takes with `tests.benchmarks.__main__.CREDENTIALS`.
    """

    name: str
    measures: tuple[Measure, ...]
    ours: Callable[[Site, int], Figures]
    theirs: Callable[[Peer, int], Figures] | None
    seconds: tuple[float, float]

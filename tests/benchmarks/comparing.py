"""Ours and a peer's figures of the same rounds, and their ratios."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.site import Site
from tests.benchmarks.targets import Spread, spread

#: The peer's figures, if any, and ours.
Pair = tuple[Figures, Figures]


def compared(
    site: Site, peer: Peer | None, scenarios: Sequence[Scenario], credentials: int, rounds: int
) -> list[dict[str, Any]]:
    """Measure in turns, the peer first: what the machine does besides hits both alike. A row a measure."""
    pairs: list[list[Pair]] = [[] for _ in scenarios]
    begin = time.monotonic()
    say(f"{rounds} rounds, about {_minutes(rounds * seconds_of(scenarios, peer is not None))} in all")
    for number in range(1, rounds + 1):
        for found, scenario in zip(pairs, scenarios, strict=True):
            found.append(_pair(site, peer, scenario, credentials, f"round {number}"))
        left = (time.monotonic() - begin) / number * (rounds - number)
        say(f"round {number} of {rounds} is over, about {_minutes(left)} to go")
    return [
        row(scenario, measure, found)
        for scenario, found in zip(scenarios, pairs, strict=True)
        for measure in scenario.measures
    ]


def seconds_of(scenarios: Sequence[Scenario], with_peer: bool) -> float:
    """What a round takes, at full size and on two cores."""
    return sum(scenario.seconds[0] + (scenario.seconds[1] if with_peer else 0) for scenario in scenarios)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _pair(site: Site, peer: Peer | None, scenario: Scenario, credentials: int, when: str) -> Pair:
    begin = time.monotonic()
    theirs = scenario.theirs(peer, credentials) if peer and scenario.theirs else {}
    between = time.monotonic()
    ours = scenario.ours(site, credentials)
    took = f"{time.monotonic() - between:.0f} s, peer {between - begin:.0f} s"
    say(f"{when}: {scenario.name} ({took}): {_shown(ours)}" + (f" | {_shown(theirs)}" if theirs else ""))
    return theirs, ours


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def row(scenario: Scenario, measure: Measure, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A line of the table, with what each round has found."""
    ours = [own[measure.name] for _, own in pairs]
    theirs = [other[measure.name] for other, _ in pairs if measure.name in other]
    ratio = _ratio(measure, ours, theirs)
    target = measure.target
    return {
        "what": f"{scenario.name}: {measure.name}",
        "ours": spread(ours),
        "peer": spread(theirs),
        "ratio": ratio,
        "to_reach": str(target) if target else None,
        "reached": target.reached(spread(ours), ratio) if target else None,
        **({"axis": measure.point[0], "at": measure.point[1]} if measure.point else {}),
        "rounds": {"ours": ours, "peer": theirs},
    }


def _ratio(measure: Measure, ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Of the same rounds each: a slow minute slows both sides."""
    if not measure.divided or not theirs or not all(theirs):
        return None
    return spread([own / other for own, other in zip(ours, theirs, strict=True)])

"""Ours and a peer's figures of the same rounds, and their ratios."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.site import Site

Spread = dict[str, float]


def compared(
    site: Site, peer: Peer | None, scenarios: Sequence[Scenario], credentials: int, rounds: int
) -> list[dict[str, Any]]:
    """Measure in turns, the peer first: what the machine does besides hits both alike. A row a measure."""
    rows = []
    for scenario in scenarios:
        pairs: list[tuple[Figures | None, Figures]] = []
        for number in range(rounds):
            theirs = scenario.theirs(peer, credentials) if peer else None
            pairs.append((theirs, scenario.ours(site, credentials)))
            print(f"round {number + 1}: {scenario.name}: {pairs[-1]}", file=sys.stderr, flush=True)
        rows += [_row(scenario, measure, pairs) for measure in scenario.measures]
    return rows


def _row(
    scenario: Scenario, measure: Measure, pairs: Sequence[tuple[Figures | None, Figures]]
) -> dict[str, Any]:
    ours = [own[measure.name] for _, own in pairs]
    theirs = [other[measure.name] for other, _ in pairs if other is not None]
    ratios = [own / other for own, other in zip(ours, theirs, strict=bool(theirs))]
    return {
        "what": f"{scenario.name}: {measure.name}",
        "ours": _spread(ours),
        "peer": _spread(theirs),
        "ratio": _spread(ratios),
        "to_reach": measure.to_reach,
    }


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def show(machine: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title=", ".join(f"{name} {value}" for name, value in machine.items()))
    for heading in ("what", "ours", "peer", "ratio", "to reach"):
        table.add_column(heading)
    for row in rows:
        spreads = (_text(row[name]) for name in ("ours", "peer", "ratio"))
        table.add_row(row["what"], *spreads, row["to_reach"])
    Console(width=160).print(table)


def _text(spread: Spread | None) -> str:
    return f"{spread['median']:g} ({spread['min']:g}–{spread['max']:g})" if spread else "–"

"""The figures as a table: for a terminal, and in Markdown for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.targets import Spread

HEADINGS = ("what", "ours", "peer", "ratio", "to reach", "reached")

REACHED = {True: "yes", False: "no", None: "–"}

Row = Mapping[str, Any]


def show(report: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title=machine(report))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in report["rows"]:
        table.add_row(*cells(row))
    Console(width=170).print(table)


def markdown(report: Mapping[str, Any]) -> str:
    """The same for the docs: what it was measured on, and the table."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, report["rows"])]
    return f"{machine(report)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine(report: Mapping[str, Any]) -> str:
    """On what, when and how often."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report["machine"].items())


def cells(row: Row) -> list[str]:
    """One line."""
    spreads = [_text(row[name]) for name in ("ours", "peer", "ratio")]
    return [row["what"], *spreads, row["to_reach"] or "–", REACHED[row["reached"]]]


def _text(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    median, low, high = (_number(spread[name]) for name in ("median", "min", "max"))
    return median if low == high else f"{median} ({low}–{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def missed(report: Mapping[str, Any]) -> Sequence[Row]:
    """The lines that were measured, and are not what is to be reached."""
    return [row for row in report["rows"] if row["reached"] is False]

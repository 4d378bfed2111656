"""The figures as a table: for a terminal, and in Markdown for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.roster import option_of
from tests.benchmarks.targets import Spread

HEADINGS = ("what", "ours", "peer", "ratio", "to reach", "reached")

REACHED = {True: "yes", False: "no", None: "–"}

Row = Mapping[str, Any]

#: What a row has at least.
ROW = {"what", "ours", "peer", "ratio", "to_reach", "reached"}

#: What may differ between runs that are one table.
VARYING = ("date", "load_before", "rounds")


class Different(Exception):
    """Two runs can not be one table."""


def is_report(found: Any) -> bool:
    """Whether it is in the shape in which a run is printed as JSON."""
    try:
        return (
            isinstance(found["machine"], dict)
            and all(isinstance(row["what"], str) and row.keys() >= ROW for row in found["rows"])
            and all(
                isinstance(row[side]["median"], int | float) for row in found["rows"] for side in _sides(row)
            )
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _sides(row: Row) -> Sequence[str]:
    """The figures that it has."""
    return [side for side in ("ours", "peer", "ratio") if row[side] is not None]


def together(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One of several runs with other scenarios each, on the same machine. Raises `Different`."""
    machine: dict[str, Any] = {}
    for report in reports:
        for name, value in report["machine"].items():
            if machine.setdefault(name, value) != value and name not in VARYING:
                raise Different(f"{name}: {machine[name]} in one run, {value} in another")
    rounds = sorted({report["machine"].get("rounds", 0) for report in reports}, reverse=True)
    if len(rounds) > 1:
        machine["rounds"] = " or ".join(map(str, rounds))
    rows = [row for report in reports for row in report["rows"]]
    if len({row["what"] for row in rows}) < len(rows):
        raise Different("the same was measured in two of them")
    return {"machine": machine, "rows": rows}


def show(report: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title=machine(report))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in report["rows"]:
        table.add_row(*cells(row))
    Console(width=170).print(table)


def markdown(report: Mapping[str, Any]) -> str:
    """The same for the docs: what is to be reached, what is not, and what was measured besides."""
    judged = [row for row in report["rows"] if row["to_reach"]]
    others = [row for row in report["rows"] if not row["to_reach"]]
    parts = [f"{machine(report)}.", _lines(HEADINGS, judged), _summary(judged)]
    if others:
        parts += ["Measured besides:", _lines(HEADINGS[:4], others)]
    return "\n\n".join(parts) + "\n"


def _lines(headings: Sequence[str], rows: Sequence[Row]) -> str:
    """The last column says how a line is measured again."""
    titles = [*headings, "`--scenario`"]
    lines = [titles, ["---"] * len(titles), *([*cells(row)[: len(headings)], _option(row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _option(row: Row) -> str:
    name = option_of(row["what"])
    return f"`{name}`" if name else "–"


def _summary(rows: Sequence[Row]) -> str:
    reached, measured = (
        [row for row in rows if row["reached"]],
        [row for row in rows if row["reached"] is not None],
    )
    text = f"Reached: {len(reached)} of {len(measured)}."
    names = "; ".join(row["what"] for row in measured if not row["reached"])
    return f"{text} Not reached: {names}." if names else text


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

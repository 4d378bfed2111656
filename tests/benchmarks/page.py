"""Put measured figures into the docs: ``python -m tests.benchmarks.page``, after ``./run bench --json``.

Nobody types a figure: the table of ``docs/explanation/benchmarks.md`` and the plot beside it are made of
``docs/benchmarks.json``, and a test holds them to it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import plot, table

DOCS = Path(__file__).parents[2] / "docs"
FIGURES, PAGE, PLOT = (
    DOCS / "benchmarks.json",
    DOCS / "explanation" / "benchmarks.md",
    DOCS / "images" / "benchmarks.svg",
)

BEGIN, END = "<!-- figures: made by tests.benchmarks.page -->\n", "<!-- end of figures -->\n"


def main() -> int:
    """Write both."""
    report = json.loads(FIGURES.read_text())
    PAGE.write_text(filled(PAGE.read_text(), report))
    PLOT.write_text(plot.svg(report))
    return 0


def filled(page: str, report: dict[str, Any]) -> str:
    """The page with these figures between its two marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table.markdown(report)}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())

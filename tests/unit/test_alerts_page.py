"""Promise: docs/alerts-and-logs.md has each step, field, incident and monitor of the code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from actors.purge import SCHEDULE
from pipeline import errors, events, logs, monitor, transitions
from pipeline.allow_list import TAGS
from pipeline.ledger import journal
from pipeline.ledger.incidents import HOLDING
from tests.unit.test_docs import spans, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts-and-logs.md").read_text()
CODE = "\n".join(path.read_text() for path in sorted((ROOT / "pipeline").rglob("*.py")))


def test_every_step_is_explained_with_its_level() -> None:
    """All that is told of anywhere, by its own name or as an event."""
    told = set(re.findall(r"(?:transitions|steps)\.tell(?:_each)?\(\s*\"(\w+)\"", CODE)) | {"delayed"}
    told |= {journal.PAUSED, journal.RESUMED, events.COMPLETED, events.FAILED, "replayed"}
    told |= set(events.ONCE_MORE.values())
    rows = table(PAGE.split("### One line a step")[1], "`event`")
    levels = {name: level for names, level, _ in rows for name in spans(names)}
    assert set(levels) == told
    assert {name for name, level in levels.items() if level == "WARNING"} == transitions.WARNINGS


def test_every_field_is_explained() -> None:
    """Those that come first in a line."""
    named = {span for cell, _ in table(PAGE, "field") for span in spans(cell)}
    assert set(logs.FIELDS) <= named


def test_every_incident_is_explained() -> None:
    """Each that the code may report, whether it holds writing, and whether it is critical."""
    reported = set(HOLDING) | {
        name for name in re.findall(r"\b[A-Z]\w+", _reporting()) if hasattr(errors, name)
    } - {"ChainError", "PipelineError"}
    rows = table(PAGE.split("### Incidents")[1], "error class")
    shown = {name: (level, writing) for names, level, writing, _ in rows for name in spans(names)}
    assert set(shown) == reported
    assert {name for name, (_, writing) in shown.items() if writing == "held"} == set(HOLDING)
    assert {name for name, (level, _) in shown.items() if level == "fatal"} == {
        "FinalBlockRemoved",
        "NonceConflict",
        "FundsLow",
    }


def _reporting() -> str:
    """What is raised or reported in the modules that report incidents, without their imports."""
    modules = ("sending", "chain_writing", "settlement/funds", "settlement/healing", "settlement/outcomes",
               "settlement/sweep", "settlement/watch")  # fmt: skip
    texts = [(ROOT / "pipeline" / f"{name}.py").read_text() for name in modules]
    return "\n".join(
        re.findall(
            r"(?:incidents\.report|error = |untaken = |_tell)[^\n]*(?:\n {8,}[^\n]*)?", "\n".join(texts)
        )
    )


def test_tags_and_the_monitor() -> None:
    """As they are sent."""
    [[_, tags]] = table(PAGE, "fingerprint (one issue each)")
    assert set(spans(tags)) == set(TAGS)
    assert f"`{monitor.PURGE}`" in PAGE
    assert f"`{SCHEDULE}`" in PAGE

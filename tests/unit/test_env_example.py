""".env.example knows each setting, explains it, and shows the default that really holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
LINES = (ROOT / ".env.example").read_text().splitlines()
VARIABLE = re.compile(r"^#([A-Z][A-Z0-9_]*)=(.*)$")
SHOWN = {match[1]: match[2] for line in LINES if (match := VARIABLE.match(line))}


def test_it_holds_exactly_the_settings() -> None:
    """No variable is missing, none is left over from another time, none is there twice."""
    assert sorted(SHOWN) == sorted(field.upper() for field in Settings.model_fields)
    assert len(SHOWN) == sum(1 for line in LINES if VARIABLE.match(line))


def test_copying_it_changes_nothing() -> None:
    """Each line that is not a comment would override a default."""
    assert [line for line in LINES if line and not line.startswith("#")] == []


def test_the_defaults_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every shown value taken as it is, the settings are the ones without any."""
    without: dict[str, Any] = Settings(_env_file=None).model_dump()
    for name, value in SHOWN.items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None).model_dump() == without
    defaults = {name.upper() for name, value in without.items() if value is not None}
    assert {name for name, value in SHOWN.items() if value} == defaults


@pytest.mark.parametrize("name", SHOWN)
def test_each_is_explained_in_the_line_above(name: str) -> None:
    """One line, a sentence: ``# Text.``"""
    above = LINES[next(n for n, line in enumerate(LINES) if line.startswith(f"#{name}=")) - 1]
    assert re.fullmatch(r"# .*[.…]", above)


def test_a_copy_is_read(tmp_path: Path) -> None:
    """The file is one that the settings can read, and a line without ``#`` takes effect."""
    copy = tmp_path / ".env"
    copy.write_text("\n".join(line.replace("#RATE_LIMIT_MAX=10", "RATE_LIMIT_MAX=7") for line in LINES))
    assert Settings(_env_file=copy).rate_limit_max == 7

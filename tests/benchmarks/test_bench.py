"""Promise: the comparison runs, divides what was measured together, and touches no servers but its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks.comparing import compared
from tests.benchmarks.scenarios import Measure, Scenario
from tests.benchmarks.site import Site


def test_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a peer there is nothing to divide by."""
    assert bench.main(["--credentials", "50", "--rounds", "1", "--scenario", "drain", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["what"] for row in rows if "from bulk" in row["what"]] == [
        "drain, mock, from bulk: credentials a second",
        "drain, mock, from bulk: CPU s per 1,000",
    ]
    assert all(row["ours"]["median"] >= 0 and row["peer"] is row["ratio"] is None for row in rows)


def test_refuses_servers_of_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address in the environment is somebody's: it ends before anything is started."""
    monkeypatch.setenv("REDIS_URL", "redis://:hush@cache.example/0")
    assert bench.main([]) == 2
    said = capsys.readouterr().err
    assert "REDIS_URL" in said
    assert "hush" not in said


def test_a_folder_that_is_no_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told before a server is started."""
    assert bench.main(["--peer", str(tmp_path)]) == 1
    assert "bench.mjs" in capsys.readouterr().err


def test_ratios_are_of_the_same_round() -> None:
    """A slow minute slows both sides; the quotient of medians would not know."""
    told, own = iter([1.0, 2.0, 4.0]), iter([3.0, 4.0, 4.0])
    scenario = Scenario(
        "s", (Measure("rate", True),), lambda *_: {"rate": next(own)}, lambda *_: {"rate": next(told)}
    )
    [row] = compared(Site(), object(), [scenario], credentials=1, rounds=3)  # type: ignore[arg-type]
    assert row["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert (row["what"], row["to_reach"]) == ("s: rate", "≥ 1")

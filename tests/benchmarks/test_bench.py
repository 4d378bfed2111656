"""Promise: the comparison runs, divides what was measured together, and touches no servers but its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.settings import get_settings
from tests.benchmarks import __main__ as bench
from tests.benchmarks.comparing import compared
from tests.benchmarks.roster import SCENARIOS
from tests.benchmarks.scenarios import Measure, Scenario
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_least
from tests.commands import INTERRUPTED, TERMINATED
from tests.waiting import until

ROOT = Path(__file__).parents[2]

#: What was measured last.
PUBLISHED = ROOT / "docs" / "benchmarks.json"

#: What has no place among the other tests, but with --full-size: minutes of waiting.
QUICK = ("drain",)


@pytest.mark.timeout(900)
def test_every_scenario_measures_what_it_names(capsys: pytest.CaptureFixture[str], full_size: bool) -> None:
    """Without a peer: each line has a figure of ours, and there is nothing to divide by."""
    names = tuple(SCENARIOS) if full_size else QUICK
    chosen = [option for name in names for option in ("--scenario", name)]
    assert bench.main(["--credentials", "50", "--rounds", "1", "--json", *chosen]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in report["rows"]] == [
        f"{scenario.name}: {measure.name}"
        for name in names
        for scenario in SCENARIOS[name]
        for measure in scenario.measures
    ]
    assert all(row["ours"]["median"] >= 0 and row["peer"] is row["ratio"] is None for row in report["rows"])
    assert {"date", "cores", "python", "postgresql", "valkey", "credentials", "rounds"} <= set(
        report["machine"]
    )


@pytest.mark.parametrize("variable", ["DATABASE_URL", "database_url", "REDIS_URL", "REDIS_HOST"])
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_refuses_servers_of_others(
    place: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An address there is somebody's: it ends before anything is started."""
    address = "redis://:hush@cache.example/0"
    if place == "environment":
        monkeypatch.setenv(variable, address)
    else:
        (tmp_path / ".env").write_text(f"export {variable}='{address}'\n")
    assert bench.main([]) == 2
    said = capsys.readouterr().err
    assert f"{variable} in " in said
    assert place in said
    assert "hush" not in said


def test_servers_of_others_are_no_obstacle_if_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not looked at."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hush@db.example/production")
    Site(foreign=True)


def test_a_folder_that_is_no_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told before a server is started."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--peer", str(tmp_path)])
    assert "bench.mjs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", ["--credentials=0", "--rounds=-1", "--rounds=x", "--scenario=luck", "--from=nowhere", "--x"]
)
def test_wrong_use_is_told(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before a server is started."""
    with pytest.raises(SystemExit, match="2"):
        bench.main([wrong])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: ")
    assert wrong.partition("=")[0] in line


@pytest.mark.parametrize(
    "text",
    [
        "# README",
        "[]",
        '{"rows": []}',
        "\udcff",
        '{"machine": 1, "rows": []}',
        '{"machine": {}, "rows": [{"what": "x"}]}',
    ],
)
def test_what_was_never_measured_is_not_shown(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named."""
    path = tmp_path / "figures.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--from", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line


@pytest.mark.parametrize("option", [["--rounds", "2"], ["--scenario", "gas"]])
def test_what_is_shown_is_not_measured(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for both is told which of them is not done."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--from", str(PUBLISHED), *option])
    [line] = capsys.readouterr().err.splitlines()
    assert option[0] in line


def test_paths_are_the_callers(tmp_path: Path) -> None:
    """From another folder than the clone, ``./run`` finds what is named from there."""
    (tmp_path / "figures.json").write_bytes(PUBLISHED.read_bytes())
    done = subprocess.run(
        [ROOT / "run", "bench", "--from", "figures.json", "--markdown"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "`.send()`" in done.stdout


def test_nobody_elses_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names besides is no setting of a run, and is there again afterwards."""
    lower = "batch_max_size"
    monkeypatch.setenv(lower, "zero")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///x.db")
    with used_here({"DATABASE_URL": "sqlite:///y.db"}):
        assert get_settings().database_url.get_secret_value() == "sqlite:///y.db"
        assert lower not in os.environ
    assert (os.environ[lower], os.environ["DATABASE_URL"]) == ("zero", "sqlite:///x.db")


def test_ratios_are_of_the_same_round() -> None:
    """A slow minute slows both sides; the quotient of medians would not know."""
    told, own = iter([1.0, 2.0, 4.0]), iter([3.0, 4.0, 4.0])
    scenario = Scenario(
        "s",
        (Measure("rate", at_least(1.5, times_peer=True)),),
        lambda *_: {"rate": next(own)},
        lambda *_: {"rate": next(told)},
        seconds=(1, 1),
    )
    [row] = compared(Site(), object(), [scenario], credentials=1, rounds=3)  # type: ignore[arg-type]
    assert row["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert (row["what"], row["to_reach"], row["reached"]) == ("s: rate", "≥ 1.5 ×", True)
    assert row["rounds"] == {"ours": [3.0, 4.0, 4.0], "peer": [1.0, 2.0, 4.0]}


def test_rounds_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    """Peer, ours, next scenario; then all of it again; and how long it will take is told."""
    seen: list[str] = []

    def side(name: str) -> dict[str, float]:
        seen.append(name)
        return {"x": 1.0}

    scenarios = [
        Scenario(
            name,
            (Measure("x"),),
            lambda *_, n=name: side(n),
            lambda *_, n=name: side(f"{n}'"),
            seconds=(50, 70),
        )
        for name in "ab"
    ]
    compared(Site(), object(), scenarios, credentials=1, rounds=2)  # type: ignore[arg-type]
    assert seen == ["a'", "a", "b'", "b"] * 2
    assert "2 rounds, about 8 min" in capsys.readouterr().err


def test_a_figure_of_ours_alone_has_no_peer() -> None:
    """And what is 0 on the peer's side is not divided by."""
    measures = (Measure("alone", at_least(1)), Measure("zero", at_least(1, times_peer=True)))
    scenario = Scenario(
        "s", measures, lambda *_: {"alone": 1, "zero": 2}, lambda *_: {"zero": 0}, seconds=(1, 1)
    )
    alone, zero = compared(Site(), object(), [scenario], credentials=1, rounds=1)  # type: ignore[arg-type]
    assert (alone["peer"], alone["ratio"], alone["reached"]) == (None, None, True)
    assert (zero["peer"]["max"], zero["ratio"], zero["reached"]) == (0, None, None)


def test_check_fails_where_something_is_not_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only then, and only when asked to; the line is named."""
    row = {"what": "s: rate", "ours": None, "peer": None, "ratio": None, "to_reach": "≥ 3 ×"}
    path = tmp_path / "figures.json"
    for reached, code in ((True, 0), (None, 0), (False, 1)):
        path.write_text(json.dumps({"machine": {"cores": 2}, "rows": [{**row, "reached": reached}]}))
        assert bench.main(["--from", str(path)]) == 0
        assert bench.main(["--from", str(path), "--check"]) == code
    assert "not reached: s: rate: ≥ 3 ×" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["tests.benchmarks", "--scenario", "drain", "--credentials", "5000"],
        ["tests.chaos", "--credentials", "5000", "--faults", "0"],
    ],
    ids=["bench", "chaos"],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_nothing_runs_on_when_it_is_broken_off(
    command: list[str], number: signal.Signals, code: int, new_directory: Callable[[str], Path]
) -> None:
    """By Ctrl-C, or as a CI does it: servers and workers are gone, and so are their folders."""
    folder = new_directory("bench")
    folder.chmod(0o711)  # PostgreSQL may run as another user
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        first = psutil.Process(running.pid)
        until(lambda: _has(first, "postgres") and _has(first, "valkey"), seconds=60, what="its servers run")
        started = first.children(recursive=True)
        running.send_signal(number)
        assert running.wait(60) == code
        assert "Traceback" not in (running.stderr.read() if running.stderr else "")
    until(lambda: not any(one.is_running() for one in started), seconds=10, what="none of them is left")
    assert list(folder.iterdir()) == []


def _has(process: psutil.Process, name: str) -> bool:
    for one in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in one.name():
                return True
    return False

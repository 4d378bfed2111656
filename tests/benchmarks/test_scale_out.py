"""Promise: the benchmark still runs, checks what it has measured, and touches no servers but its own."""

from __future__ import annotations

import json

import psycopg
import pytest

from pipeline.database import database
from tests.benchmarks import scale_out
from tests.benchmarks.measuring import WrongResult, check
from tests.databases import use_url

ONE = ["--credentials", "200", "--rounds", "1", "--group", "processes", "--only", "1 process"]


def test_one_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Its JSON says on what it was measured, and what each run has used."""
    assert scale_out.main([*ONE, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"date", "cores", "python", "postgresql", "valkey"} <= set(report["machine"])
    [entry] = report["configurations"]
    assert (entry["name"], entry["processes"], entry["credentials"]) == ("mock, 1 process", 1, 200)
    assert entry["times_the_first"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    [run] = entry["runs"]
    assert run["credentials_per_second"] == entry["credentials_per_second"]["median"] > 0
    assert run["batches"] >= 1
    assert set(run["cpu_seconds_per_1000"]) == {"workers", "postgresql", "valkey"}
    assert min(run["cpu_seconds_per_1000"].values()) >= 0
    assert run["cores_used"] > 0


def test_what_is_not_confirmed_is_no_figure(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts only when the rows say that all were confirmed, each once."""
    use_url(postgres_url, monkeypatch)
    database.is_closed()  # opens it
    with psycopg.connect(postgres_url) as admin:
        with pytest.raises(WrongResult, match="1 were queued"):
            check(admin, None, 1)
        check(admin, None, 0)
    database.close_all()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL", "REDIS_HOST", "BLOCKCHAIN_RPC_URL"])
def test_refuses_servers_of_others(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address in the environment is somebody's: it ends before anything is started."""
    monkeypatch.setenv(variable, "postgresql://user:hush@db.example/production")
    assert scale_out.main(ONE) == 2
    said = capsys.readouterr().err
    assert variable in said
    assert "hush" not in said


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Before a server is started."""
    for wrong in (["--credentials", "0"], ["--only", "no such thing"], ["--group", "none"]):
        with pytest.raises(SystemExit, match="2"):
            scale_out.main(wrong)
    assert "no configuration" in capsys.readouterr().err

"""Promise: after faults at random all that must hold does, and a run tells how it is made again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS
from tests.chaos.schedule import plan


def small_runs(full_size: bool) -> Iterator[tuple[int, int, int]]:
    """Seeds, credentials and faults: one that is always the same, at full size one by chance too."""
    yield 7, 150, 6
    if full_size:
        yield random.SystemRandom().randrange(10**6), 500, 28


def test_faults_at_random(capsys: pytest.CaptureFixture[str], full_size: bool) -> None:
    """Nothing is lost, nothing is anchored twice; a failure's output has the seed and the faults."""
    for seed, credentials, faults in small_runs(full_size):
        code = main([f"--seed={seed}", f"--credentials={credentials}", f"--faults={faults}"])
        said = capsys.readouterr().out
        assert code == 0, said
        assert f"./run chaos --seed {seed} --credentials {credentials} --faults {faults}" in said
        assert f"{credentials} accepted" in said
        assert "0 twice, 0 never" in said


def test_a_seed_is_a_schedule() -> None:
    """The same seed draws the same faults for the same progress, another one draws others; all kinds come."""
    kinds = list(FAULTS)
    first = plan(7, 5000, 200, kinds)
    assert first == plan(7, 5000, 200, kinds)
    assert first != plan(8, 5000, 200, kinds)
    assert {planned.kind for planned in first} == set(kinds)
    assert [planned.at for planned in first] == sorted(planned.at for planned in first)
    assert len(first) == 200
    assert first[-1].at < 10_000


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_refuses_servers_of_others(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are somebody's: before anything is started."""
    monkeypatch.setenv(variable, "redis://user:hush@db.example/0")
    assert main(["--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert variable in said
    assert "hush" not in said


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Before a server is started."""
    for wrong in (["--credentials", "0"], ["--faults", "-1"], ["--seed", "x"], ["--only", "an earthquake"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    assert "invalid choice" in capsys.readouterr().err

"""Promise: after faults at random all that must hold does, and a run tells how it is made again."""

from __future__ import annotations

import random

import pytest

from tests.chaos.__main__ import LARGEST_SEED, main
from tests.chaos.faults import FAULTS
from tests.chaos.schedule import plan

pytestmark = pytest.mark.timeout(300)

#: Credentials and faults, as many as CI has time for.
CREDENTIALS, FAULTS_MADE = 100, 6


@pytest.mark.parametrize("by_chance", [False, True], ids=["fixed", "by chance"])
def test_faults_at_random(by_chance: bool, capsys: pytest.CaptureFixture[str], full_size: bool) -> None:
    """Nothing is lost, nothing is anchored twice; a failure's output has the seed and the faults."""
    seed = random.SystemRandom().randrange(LARGEST_SEED) if by_chance else 7
    more = 5 if full_size else 1
    size = (CREDENTIALS * more, FAULTS_MADE * more)
    code = main([f"--seed={seed}", f"--credentials={size[0]}", f"--faults={size[1]}"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert f"./run chaos --seed {seed} --credentials {size[0]} --faults {size[1]}" in said
    assert f"{size[0]} accepted" in said
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


@pytest.mark.parametrize(
    "variable", ["DATABASE_URL", "REDIS_URL", "REDIS_HOST", "BLOCKCHAIN_RPC_URL", "redis_url"]
)
def test_refuses_servers_of_others(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are somebody's: before anything is started."""
    monkeypatch.setenv(variable, "redis://user:hush@db.example/0")
    assert main(["--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert variable in said
    assert "hush" not in said


@pytest.mark.parametrize(
    "wrong",
    [
        "--credentials=0",
        "--faults=-1",
        "--seed=x",
        "--seed=-1",
        "--only=an earthquake",
        "--broken=all",
        "--x",
    ],
)
def test_wrong_use_is_told(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before a server is started."""
    with pytest.raises(SystemExit, match="2"):
        main([wrong])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("chaos: ")
    assert wrong.partition("=")[0] in line

"""Promise: a worker that is killed at whichever boundary is made up for within ten seconds, once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.workers import Workers
from pipeline.models import Batch, Transaction, Write
from pipeline.settings import get_settings
from tests.end_to_end.rosters.failpoints import NAMES
from tests.issuer import chain_variables, completed, queue_documents
from tests.servers.anvil import Anvil
from tests.truth import assert_truthful
from tests.waiting import until
from tests.workers import as_supervisor, nothing_is_unacked

COUNT = 20

#: What CI has time for: one run that dies on both sides of the moment that can not be undone.
CI = "after_store,after_broadcast"

#: How often each name has its turn in full size.
REPETITIONS = 20

RESUMED_SECONDS = 10.0

#: Where the first passing is not the one that matters: the urgent lane is joined first, by nobody.
PASSINGS = {"before_join": 2, "after_join": 2}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each name as often as promised, or the few that CI has time for; ``-k`` finds a name."""
    if "names" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full-size")
        runs = [(name, n) for name in NAMES for n in range(REPETITIONS)] if full else [(CI, 0)]
        metafunc.parametrize("names", [name for name, _ in runs], ids=[f"{name}-{n:02}" for name, n in runs])


class Recovery:
    """How long it took from each death until something was done that was not done at the death."""

    def __init__(self, markers: Path) -> None:
        self.seconds: dict[str, float] = {}
        self._markers = markers
        self._at_death: Any = None

    def note_death(self) -> None:
        """The process is gone, and no other runs."""
        self._at_death = self._done()

    def look(self) -> None:
        """Note the first progress after a death; a next death is one."""
        if self._at_death is not None and self._done() != self._at_death:
            dead = max(self._at_death[0], key=lambda name: self._died_at(name))
            self.seconds[dead] = time.time() - self._died_at(dead)
            self._at_death = None

    def since_last_death(self) -> float:
        """Seconds."""
        return time.time() - max(path.stat().st_mtime for path in self._markers.iterdir())

    def _died_at(self, name: str) -> float:
        return (self._markers / name).stat().st_mtime

    def _done(self) -> tuple[list[str], ...]:
        return (
            sorted(path.name for path in self._markers.iterdir()),
            sorted(f"{row.id} {row.state}" for row in Write.select()),
            sorted(f"{row.id} {row.state}" for row in Batch.select()),
            sorted(f"{row.id} {row.state}" for row in Transaction.select()),
        )


@pytest.fixture
def start_mortal(
    start_workers: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Workers]:
    """Start workers that die at these failpoints, and leave markers in the folder."""

    def run(failpoints: str, markers: Path, **variables: object) -> Workers:
        for name, value in variables.items():
            monkeypatch.setenv(name.upper(), str(value))
        get_settings.cache_clear()
        mortal = {"FAILPOINT": failpoints, "FAILPOINT_MARKERS": str(markers)}
        return start_workers(
            environment={**os.environ, **mortal, "PYTHONPATH": str(Path(__file__).parents[2])},
            roster="tests.end_to_end.rosters.failpoints",
        )

    return run


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_boundary_is_passed(
    client: Any, start_mortal: Callable[..., Workers], anvil: Anvil, tmp_path: Path
) -> None:
    """Nobody dies at a function that is not called any more."""
    markers = tmp_path / "markers"
    markers.mkdir()
    start_mortal(",".join(f"{name}:0" for name in NAMES), markers, batch_max_size=5, **chain_variables(anvil))
    queue_documents(COUNT)
    until(completed(client, COUNT), seconds=30, what="all are completed")
    until(lambda: len(list(markers.iterdir())) == len(NAMES), seconds=10, what="every boundary was passed")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_killed_at(
    client: Any,
    start_mortal: Callable[..., Workers],
    anvil: Anvil,
    redis_url: str,
    tmp_path: Path,
    names: str,
) -> None:
    """One death each, everything confirmed at the first attempt, and no transaction too many."""
    variables = chain_variables(anvil)
    markers = tmp_path / "markers"
    markers.mkdir()
    wanted = sorted(names.split(","))
    failpoints = ",".join(f"{name}:{PASSINGS.get(name, 1)}" for name in wanted)
    workers = start_mortal(failpoints, markers, batch_max_size=5, **variables)
    queue_documents(COUNT)
    recovery = Recovery(markers)
    all_confirmed, all_acked = completed(client, COUNT), nothing_is_unacked(redis_url)

    def is_over() -> bool:
        recovery.look()
        died = len(list(markers.iterdir())) == len(wanted) and workers.poll() is None
        return died and all_confirmed() and all_acked()

    assert as_supervisor(workers, is_over, on_death=recovery.note_death) == len(wanted)
    recovery.look()
    print("resumed after", {name: round(seconds, 1) for name, seconds in recovery.seconds.items()})
    print("the last death was made up for after", round(recovery.since_last_death(), 1))
    assert sorted(path.name for path in markers.iterdir()) == wanted
    assert {row.attempts for row in Write.select()} == {1}
    assert Transaction.select().count() == COUNT // 5
    assert_truthful(anvil, variables)
    assert max(recovery.seconds.values(), default=0) <= RESUMED_SECONDS

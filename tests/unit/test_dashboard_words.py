"""Promise: the overview's sentence is true: it calls nothing well that is late, away or held."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipeline.dashboard import words
from pipeline.dashboard.data.pulse import Pulse, Trouble
from pipeline.dashboard.data.why import Pause

NOTHING = dict.fromkeys(("waiting", "active", "delayed", "completed", "failed"), 0)


def pulse(**changed: Any) -> Pulse:
    now = time.time()
    well: dict[str, Any] = {
        "last_purge": now,
        "last_settle": now,
        "last_reconcile": now,
        "scheduler_seen": now,
        "pause": None,
        "held": None,
        "incidents": (),
        "redis": True,
        "workers": 1,
        "since": now - 86_400,
    }
    return Pulse(**well | changed)


def test_all_is_well() -> None:
    """With nothing queued, and with something on its way."""
    assert words.about(pulse(), NOTHING, 0).title == "All is well, and nothing waits"
    found = words.about(pulse(), NOTHING | {"active": 1200}, 0)
    assert (found.mood, found.title) == ("fine", "At work: 1\u202f200 on their way")
    assert words.about(pulse(), NOTHING, 3).mood == "held"


@pytest.mark.parametrize("late", ["last_purge", "last_settle", "last_reconcile", "scheduler_seen"])
def test_what_is_late(late: str) -> None:
    """It is named, with what to do."""
    found = words.about(pulse(**{late: time.time() - 86_400}), NOTHING, 0)
    assert found.mood == "bad"
    assert any("late." in line for line in found.lines)
    assert not all(beat.fine for beat in words.beats(pulse(**{late: time.time() - 86_400})))


def test_what_was_never_seen() -> None:
    """Fine where workers have just begun, and late where they are at it for long."""
    begun = {"last_purge": None, "scheduler_seen": None}
    assert words.about(pulse(**begun, since=time.time() - 60), NOTHING, 0).mood == "fine"
    assert len(words.about(pulse(**begun), NOTHING, 0).lines) == 2


def test_nothing_hides_the_rest() -> None:
    """Paused, and Redis away, and an incident: all are told."""
    troubled = pulse(
        pause=Pause("ann", 0.0),
        held="paused",
        redis=False,
        workers=None,
        incidents=(Trouble("no funds", 0.0),),
    )
    found = words.about(troubled, NOTHING, 0)
    assert found.title.startswith("Paused by ann since")
    told = " ".join(found.lines)
    assert "Redis does not answer" in told
    assert "no funds (since 1 Jan 00:00:00 UTC)" in told


def test_no_worker_comes_first() -> None:
    """Whatever else there is."""
    found = words.about(pulse(last_settle=None, last_reconcile=None, held="funds"), NOTHING, 0)
    assert found.title == "No worker is alive"


def test_what_holds() -> None:
    """In words for people, with what to do."""
    found = words.about(pulse(held="funds"), NOTHING, 0)
    assert found.mood == "bad"
    assert found.lines

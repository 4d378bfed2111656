"""Switches and facts that all processes share: pause, Redis's epoch, when a sweep last ran."""

from __future__ import annotations

import time
from typing import Any

from peewee import fn

from pipeline import transitions
from pipeline.database import reading, transaction
from pipeline.ledger import journal
from pipeline.models import Control

PAUSED = "paused"

#: When a sweep last came to its end, and when a message of the scheduler last reached a worker:
#: ``repr`` of seconds since the epoch.
LAST_SETTLE, LAST_RECONCILE, LAST_PURGE = "last_settle", "last_reconcile", "last_purge"
SCHEDULER_SEEN = "scheduler_seen"

#: The sweeps come more often than anybody has to know.
NOTED_SECONDS = 5.0


@reading
def read(name: str) -> str | None:
    """The value of ``name``, or None where it was never set."""
    row = Control.select(Control.value).where(Control.name == name).tuples().first()
    return row[0] if row else None


@transaction
def write(name: str, value: str) -> None:
    """Set ``name``."""
    row = {"name": name, "value": value, "updated_at": time.time()}
    Control.insert(row).on_conflict(
        conflict_target=[Control.name], preserve=[Control.value, Control.updated_at]
    ).execute()


def note_time(name: str) -> None:
    """Set ``name`` to now, unless it is set to less than `NOTED_SECONDS` ago."""
    now = time.time()
    before = read(name)
    if before is None or abs(now - float(before)) >= NOTED_SECONDS:
        write(name, repr(now))


def is_paused() -> bool:
    """Whether chain writing is paused."""
    return read(PAUSED) == "true"


def paused() -> Any:
    """The same as a condition in a query."""
    return fn.EXISTS(Control.select(Control.name).where(Control.name == PAUSED, Control.value == "true"))


@transaction
def set_paused(paused: bool, *, actor: str = journal.PIPELINE) -> None:
    """Pause chain writing, or let it go on."""
    write(PAUSED, "true" if paused else "false")
    event = journal.PAUSED if paused else journal.RESUMED
    journal.note(event, actor=actor)
    transitions.tell(event)

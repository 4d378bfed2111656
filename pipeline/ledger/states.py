"""The states that pollers see, as conditions; each has an index with the same one (migrations 0002, 0009)."""

from __future__ import annotations

from pipeline.models import State, Write

WAITING = (Write.state == State.QUEUED) & (Write.attempts == 0) & Write.due_at.is_null()
DELAYED = Write.state.in_(State.PENDING) & Write.due_at.is_null(False)
ACTIVE = (
    Write.state.in_(State.PENDING)
    & Write.due_at.is_null()
    & ((Write.state != State.QUEUED) | (Write.attempts > 0))
)
COMPLETED = (Write.state == State.CONFIRMED) & Write.purged_at.is_null()
FAILED = (Write.state == State.FAILED) & Write.purged_at.is_null()

"""Jobs as the lists show them, newest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline import status
from pipeline.dashboard.data import keyset
from pipeline.dashboard.data.keyset import Page
from pipeline.database import reading
from pipeline.errors import InvalidInput
from pipeline.models import Write


@dataclass(frozen=True, slots=True)
class Job:
    """One job; ``status`` and ``reason`` as pollers see them, ``error`` its code where it has failed.

    ``purged``: retention has taken it off the lists of completed and failed ones.
    """

    job_id: str
    credential_id: str
    data_hash: str
    priority: str
    status: str
    reason: str | None
    attempts: int
    queued_at: float
    updated_at: float
    transaction_hash: str | None
    batch_id: int | None
    error: str | None
    purged: bool


@reading
def page(
    state: str | None, *, before: str | None = None, after: str | None = None, limit: int = 50
) -> Page[Job]:
    """The jobs of one of the five states, by the list's own index; None: all, purged ones too.

    What has ended comes by its end, everything else by when it was queued. Raises `InvalidInput` for
    an unknown state, and as `keyset.page` does.
    """
    if state is not None and state not in status.LISTS:
        raise InvalidInput(f"state {state!r}: must be one of {', '.join(status.LISTS)}")
    condition, columns = (None, (Write.id,)) if state is None else status.LISTS[state]
    query = status.select() if condition is None else status.select().where(condition)
    return keyset.page([query], columns, viewer(), before=before, after=after, limit=limit)


def viewer() -> Callable[[Any], Job]:
    """What makes a `Job` of a row of `pipeline.status.select`; asks once what holds chain writing."""
    hold = cache(status.hold_reason)
    return lambda write: _job(write, hold)


def _job(write: Any, hold: status.Hold) -> Job:
    shown = status.status_of(write)
    return Job(
        job_id=write.job_id,
        credential_id=write.credential_id,
        data_hash=write.data_hash,
        priority=write.priority,
        status=shown,
        reason=status.reason_of(write, shown, hold),
        attempts=write.attempts,
        queued_at=write.queued_at,
        updated_at=write.updated_at,
        transaction_hash=None if write.batch is None else write.batch.transaction_hash,
        batch_id=write.batch_id,
        error=write.error_code if shown == "failed" else None,
        purged=write.purged_at is not None,
    )

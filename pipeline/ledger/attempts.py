"""What a failed attempt leads to, in whichever stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline import transitions
from pipeline.errors import PipelineError

#: Dramatiq can not delay a message for longer.
MAX_BACKOFF_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A retry after that many milliseconds, dead letters of that cause, or both."""

    retry_in_ms: int | None
    cause_id: str | None


def delay_of(error: PipelineError, stage: str, delay_ms: int) -> dict[str, Any]:
    """The fields of a log line about a retry."""
    return {"stage": stage, "error": error.code, "reason": error.message, "retry_in_ms": delay_ms}


def tell_delayed(
    members: Iterable[tuple[Any, ...]],
    error: PipelineError,
    stage: str,
    delay_ms: int,
    *,
    batch_id: int | None = None,
) -> None:
    """Log that these are tried again later: (id, attempts, job id, credential id) each."""
    by_attempt: dict[int, list[transitions.Job]] = {}
    for _, attempt, job_id, credential_id in members:
        by_attempt.setdefault(attempt, []).append((job_id, credential_id))
    for attempt, jobs in sorted(by_attempt.items()):
        fields = delay_of(error, stage, delay_ms)
        transitions.tell("delayed", jobs, batch_id=batch_id, attempt=attempt, **fields)

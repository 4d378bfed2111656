"""What a failed attempt leads to, in whichever stage."""

from __future__ import annotations

from dataclasses import dataclass

#: Dramatiq can not delay a message for longer.
MAX_BACKOFF_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A retry after that many milliseconds, dead letters of that cause, or both."""

    retry_in_ms: int | None
    cause_id: str | None

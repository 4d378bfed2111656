"""The alert of a cause, once: claimed by what it has not yet said, repeated under the same event id."""

from __future__ import annotations

from uuid import UUID

from pipeline import alerts
from pipeline.ledger import dead_letters


def alert(cause_id: str) -> None:
    """Raise one Sentry event for a cause, unless that has been done."""
    cause = dead_letters.cause_of(cause_id)
    if cause is None:
        return
    alerts.capture_failure(
        event_id=UUID(cause.id).hex,
        stage=cause.stage,
        error_class=cause.error,
        message=cause.message,
        attempts=cause.attempts,
        permanent=cause.permanent,
        credential_id=cause.credential_id if cause.count == 1 else None,
        batch_id=cause.batch_id,
        count=cause.count,
    )
    dead_letters.mark_alerted(cause_id)

"""The alert of a cause, once: claimed by what it has not yet said, repeated under the same event id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pipeline import alerts, events
from pipeline.completion import keep_results
from pipeline.errors import WriteFailed
from pipeline.ledger import dead_letters
from pipeline.settings import get_settings


def alert(cause_id: str) -> None:
    """Tell of a cause's dead letters: one Sentry event, unless there was one, and what is stored of them."""
    events.publish()
    cause = dead_letters.cause_of(cause_id)
    if cause is None:
        return
    event_id = UUID(cause.id).hex
    taken = alerts.capture_failure(
        event_id=event_id,
        stage=cause.stage,
        error_class=cause.error,
        message=cause.message,
        attempts=cause.attempts,
        permanent=cause.permanent,
        credential_id=cause.credential_id if cause.count == 1 else None,
        batch_id=cause.batch_id,
        count=cause.count,
    )
    _keep_failures(cause_id)
    if taken and not alerts.arrived(event_id):
        dead_letters.mark_alert_tried(cause_id)
    else:
        dead_letters.mark_alerted(cause_id)


def _keep_failures(cause_id: str) -> None:
    """Let ``get_result`` of a sent message raise ``ResultFailure``."""
    failures: dict[str, Any] = {
        job_id: WriteFailed(f"{error}: {message}")
        for job_id, _, error, message in dead_letters.failures_with_messages(cause_id)
    }
    keep_results(failures, ttl_ms=get_settings().result_failed_max_age_seconds * 1000)

"""What operators have to mend at chain, node or wallet: recorded, logged, alerted once."""

from __future__ import annotations

import logging

from pipeline import alerts
from pipeline.errors import PipelineError
from pipeline.ledger import incidents

logger = logging.getLogger(__name__)


def report(error: PipelineError, *, subject: str, level: str = "error", over: bool = False) -> None:
    """Record ``error`` about ``subject`` and raise its alert, unless that incident is under way.

    ``level``: "error", or "fatal" for what needs a human now. ``over``: it is an event and lasts no time.
    """
    if incidents.begin(error.code, subject, error.message, level=level):
        logger.error("%s: %s", error.code, error.message, extra={"error": error.code})
    if over:
        incidents.end(error.code, subject)
    alert_all()


def alert_all() -> None:
    """Raise the alerts that have not left yet; a repeat has the same event id."""
    for incident in incidents.not_alerted():
        alerts.capture_incident(
            event_id=incident.event_id,
            error_class=incident.kind,
            message=incident.message,
            level=incident.level,
        )
        incidents.mark_alerted(incident.id)

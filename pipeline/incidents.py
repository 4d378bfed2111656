"""What operators have to mend at chain, node or wallet: recorded, logged, alerted once."""

from __future__ import annotations

import logging

from pipeline import alerts
from pipeline.errors import PipelineError
from pipeline.ledger import incidents
from pipeline.models import Incident

logger = logging.getLogger(__name__)

#: Seconds after which an alert that did not arrive is raised again.
ALERT_AGAIN_SECONDS = 60.0


def of_signer(chain_id: int | None, signer: str) -> str:
    """The subject of what is about a signer on a chain."""
    return f"{chain_id}:{signer}"


def report(
    error: PipelineError,
    *,
    subject: str,
    level: str = "error",
    over: bool = False,
    alert_after_seconds: float = 0,
) -> None:
    """Record ``error`` about ``subject``, unless that incident is under way; `alert` tells of it.

    ``level``: "error", or "fatal" for what needs a human now. ``over``: it is an event and lasts no
    time. ``alert_after_seconds``: only what lasts for longer has to be told.
    """
    incident = incidents.begin(
        error.code, subject, error.message, level=level, alert_after_seconds=alert_after_seconds
    )
    if over:
        incidents.end(error.code, subject)
    if incident is not None:
        logger.error("%s: %s", error.code, error.message, extra={"error": error.code})


def alert() -> None:
    """Raise the alerts that are due. What has happened is recorded: a kill costs a repeat at most.

    A repeat has the same event id.
    """
    for incident in incidents.not_alerted():
        _alert(incident)


def _alert(incident: Incident) -> None:
    taken = alerts.capture_incident(
        event_id=incident.event_id,
        error_class=incident.kind,
        message=incident.message,
        level=incident.level,
    )
    if taken and not alerts.arrived(incident.event_id):
        incidents.alert_later(incident.id, ALERT_AGAIN_SECONDS)
    else:
        incidents.mark_alerted(incident.id)

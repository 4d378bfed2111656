"""What operators have to know and mend: one alert for each, however often it is met."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import peewee as pw
from peewee import fn

from pipeline.database import transaction
from pipeline.ledger.sql import rows
from pipeline.models import Incident

#: Kinds that hold chain writing until they are over: no credential is to blame, and none pays an attempt.
HOLDING = (
    "InsufficientFunds",
    "NotAnIssuer",
    "FeeCeiling",
    "WrongChain",
    "ChainReset",
    "NoContract",
    "SettingsError",
)

#: One that comes back within so many seconds of its alert is the same incident, and told of once more
#: only if it is still there when they are over.
SAME_WITHIN_SECONDS = 600.0


@transaction
def begin(
    kind: str, subject: str, message: str, *, level: str = "error", alert_after_seconds: float = 0
) -> Incident | None:
    """Record an incident; None when it is under way already, or was told of a moment ago.

    With ``alert_after_seconds`` it is told of only if it is still there then, and None too.
    """
    mine = (Incident.kind == kind) & (Incident.subject == subject)
    last: Incident | None = Incident.select().where(mine).order_by(Incident.id.desc()).first()
    if last is not None and _is_same(last):
        Incident.update(message=message).where(Incident.id == last.id).execute()
        if last.closed_at is not None:
            _reopen(last, alert_after_seconds)
        return None
    new = {
        "event_id": uuid4().hex,
        "kind": kind,
        "subject": subject,
        "level": level,
        "message": message,
        "opened_at": time.time(),
        "alert_due_at": time.time() + alert_after_seconds if alert_after_seconds else None,
    }
    made: list[Incident] = list(Incident.insert(new).on_conflict_ignore().returning(Incident))
    return made[0] if made and not alert_after_seconds else None


def _is_same(last: Incident) -> bool:
    """Whether an incident that is met now is that one."""
    told_at = last.alerted_at or last.opened_at
    return last.closed_at is None or told_at > time.time() - SAME_WITHIN_SECONDS


def _reopen(last: Incident, alert_after_seconds: float) -> None:
    due_at = time.time() + alert_after_seconds if alert_after_seconds else 0.0
    again: dict[str, Any] = {"closed_at": None}
    if last.alerted_at:
        again |= {"event_id": uuid4().hex}
        due_at = max(due_at, last.alerted_at + SAME_WITHIN_SECONDS)
    Incident.update({**again, "alert_due_at": due_at or None}).where(Incident.id == last.id).execute()


def _closing() -> dict[str, Any]:
    """What closes an incident. One that was to be told of later is none that anybody has to hear of."""
    early = (
        Incident.alerted_at.is_null()
        & Incident.alert_due_at.is_null(False)
        & Incident.alert_tried_at.is_null()
    )
    return {
        "closed_at": time.time(),
        "alerted_at": pw.Case(None, ((early, 0.0),), Incident.alerted_at),
        "alert_due_at": None,
    }


@transaction
def end(kind: str, subject: str) -> bool:
    """Close an incident; False when it was not under way."""
    return bool(
        Incident.update(_closing())
        .where(Incident.kind == kind, Incident.subject == subject, Incident.closed_at.is_null())
        .execute()
    )


@transaction
def end_holds(but: tuple[str, str] | None = None) -> list[str]:
    """Close what holds chain writing, but for one kind and subject; returns the kinds that were closed."""
    over = Incident.update(_closing()).where(Incident.kind.in_(HOLDING), Incident.closed_at.is_null())
    if but is not None:
        kind, subject = but
        over = over.where((Incident.kind != kind) | (Incident.subject != subject))
    return [row[0] for row in over.returning(Incident.kind).tuples()]


def holding() -> Incident | None:
    """What holds chain writing now, the oldest first."""
    found: Incident | None = (
        Incident.select()
        .where(Incident.kind.in_(HOLDING), Incident.closed_at.is_null())
        .order_by(Incident.id)
        .first()
    )
    return found


def held() -> Any:
    """Whether anything holds chain writing, as a condition in a query."""
    return fn.EXISTS(
        Incident.select(Incident.id).where(Incident.kind.in_(HOLDING), Incident.closed_at.is_null())
    )


def under_way() -> list[Incident]:
    """All that are not over, oldest first."""
    return list(Incident.select().where(Incident.closed_at.is_null()).order_by(Incident.id))


def subjects_of(*kinds: str) -> frozenset[str]:
    """What the incidents of these kinds that are not over are about."""
    mine = Incident.kind.in_(kinds) & Incident.closed_at.is_null()
    return frozenset(row[0] for row in rows(Incident.select(Incident.subject).where(mine)))


def not_alerted(*, limit: int = 100) -> list[Incident]:
    """Those of which nobody has been told, over or not; and what is still under way and due once more."""
    due = Incident.alert_due_at < time.time()
    untold = Incident.alerted_at.is_null() & (Incident.alert_due_at.is_null() | due)
    mine = untold | (Incident.closed_at.is_null() & due)
    return list(Incident.select().where(mine).order_by(Incident.id).limit(limit))


@transaction
def alert_later(incident_id: int, seconds: float) -> None:
    """The alert has not arrived: raise it once more."""
    now = time.time()
    Incident.update(alert_due_at=now + seconds, alert_tried_at=now).where(
        Incident.id == incident_id
    ).execute()


@transaction
def mark_alerted(incident_id: int) -> None:
    """Record that the alert has left."""
    Incident.update(alerted_at=time.time(), alert_due_at=None).where(Incident.id == incident_id).execute()

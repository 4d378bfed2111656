"""Promise: one alert for an incident, however often and by however many it is met."""

from __future__ import annotations

import time

from pipeline.ledger import batches, incidents
from pipeline.models import Incident
from tests.ledger import verified
from tests.racing import in_threads


def test_met_by_ten_at_once(ledger: str) -> None:
    """One begins it."""
    outcomes = in_threads(10, lambda _: incidents.begin("InsufficientFunds", "1", "empty"))
    assert sum(found is not None for found in outcomes) == 1
    assert Incident.select().count() == 1


def test_back_at_once_is_the_same(ledger: str) -> None:
    """What ends and comes back is alerted again only after a while."""
    assert incidents.begin("FeeCeiling", "1", "dear")
    assert incidents.end("FeeCeiling", "1")
    assert not incidents.end("FeeCeiling", "1")
    assert not incidents.begin("FeeCeiling", "1", "dear again")
    assert incidents.end("FeeCeiling", "1")
    Incident.update(opened_at=Incident.opened_at - incidents.SAME_WITHIN_SECONDS - 1).execute()
    assert incidents.begin("FeeCeiling", "1", "dear once more")
    assert Incident.select().count() == 2


def told(kind: str) -> str:
    """Begin that incident, and raise its alert; its event's id."""
    incident = incidents.begin(kind, "1", "first")
    assert incident is not None
    incidents.mark_alerted(incident.id)
    return incident.event_id


def test_back_at_once_and_there_to_stay(ledger: str) -> None:
    """Then it is told of once more, as another event, and not before the time is over."""
    first = told("InsufficientFunds")
    incidents.end("InsufficientFunds", "1")
    assert not incidents.begin("InsufficientFunds", "1", "again")
    assert incidents.not_alerted() == []
    Incident.update(alert_due_at=Incident.alert_due_at - incidents.SAME_WITHIN_SECONDS - 1).execute()
    [due] = incidents.not_alerted()
    assert (due.message, due.event_id == first) == ("again", False)
    incidents.mark_alerted(due.id)
    assert incidents.not_alerted() == []


def test_back_at_once_and_gone(ledger: str) -> None:
    """Nobody is told of what has ended since."""
    told("FeeCeiling")
    incidents.end("FeeCeiling", "1")
    incidents.begin("FeeCeiling", "1", "again")
    Incident.update(alert_due_at=0).execute()
    assert incidents.end_holds() == ["FeeCeiling"]
    assert incidents.not_alerted() == []
    assert Incident.get().alert_due_at is None


def test_one_that_comes_and_goes_is_told_of_now_and_then(ledger: str) -> None:
    """What counts is how long ago the last alert was, not how long ago it ended."""
    told("FeeCeiling")
    Incident.update(alerted_at=Incident.alerted_at - incidents.SAME_WITHIN_SECONDS - 1).execute()
    incidents.end("FeeCeiling", "1")
    assert incidents.begin("FeeCeiling", "1", "again")


def test_one_that_is_told_of_only_if_it_lasts(ledger: str) -> None:
    """Not at its begin, nor when it is over in time; each time anew."""
    for _ in range(2):
        assert not incidents.begin("NodeUnreachable", "1", "away", alert_after_seconds=300)
        assert incidents.not_alerted() == []
        assert [found.kind for found in incidents.under_way()] == ["NodeUnreachable"]
        incidents.end("NodeUnreachable", "1")
        assert incidents.not_alerted() == []
    incidents.begin("NodeUnreachable", "1", "away", alert_after_seconds=300)
    Incident.update(alert_due_at=time.time() - 1).execute()
    [due] = incidents.not_alerted()
    incidents.mark_alerted(due.id)
    assert incidents.not_alerted() == []
    assert Incident.select().count() == 1


def test_writing_is_held(ledger: str) -> None:
    """While one of the holding kinds is under way; others hold nothing."""
    verified()
    incidents.begin("NonceConflict", "1:0xaa:7", "foreign")
    assert batches.next_ready() is not None
    incidents.begin("NotAnIssuer", "1", "no role")
    assert batches.next_ready() is None
    assert incidents.end_holds(but=("NotAnIssuer", "1")) == []
    incidents.begin("NotAnIssuer", "2", "no role either")
    assert incidents.end_holds(but=("NotAnIssuer", "1")) == ["NotAnIssuer"]
    assert incidents.end_holds() == ["NotAnIssuer"]
    assert batches.next_ready() is not None
    assert [found.kind for found in incidents.under_way()] == ["NonceConflict"]


def test_alerted_once(ledger: str) -> None:
    """Until the alert has left it is to be raised again, also when the incident is over."""
    incidents.begin("FinalBlockRemoved", "1:0x07", "deep", level="fatal")
    incidents.end("FinalBlockRemoved", "1:0x07")
    [found] = incidents.not_alerted()
    assert found.level == "fatal"
    incidents.mark_alerted(found.id)
    assert incidents.not_alerted() == []

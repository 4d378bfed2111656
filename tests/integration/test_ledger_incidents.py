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
    Incident.update(closed_at=Incident.closed_at - incidents.SAME_WITHIN_SECONDS - 1).execute()
    assert incidents.begin("FeeCeiling", "1", "dear once more")
    assert Incident.select().count() == 2


def test_writing_is_held(ledger: str) -> None:
    """While one of the holding kinds is under way; others hold nothing."""
    verified()
    incidents.begin("NonceConflict", "1:0xaa:7", "foreign")
    assert batches.next_ready() is not None
    incidents.begin("NotAnIssuer", "1", "no role")
    assert batches.next_ready() is None
    assert incidents.end_holds(except_kind="NotAnIssuer") == []
    assert incidents.end_holds() == ["NotAnIssuer"]
    assert batches.next_ready() is not None
    assert [found.kind for found in incidents.under_way()] == ["NonceConflict"]


def test_alerted_once(ledger: str) -> None:
    """Until the alert has left it is to be raised again, also when the incident is over."""
    incidents.begin("FinalBlockRemoved", "1:0x07", "deep", level="fatal")
    incidents.end("FinalBlockRemoved", "1:0x07")
    assert incidents.not_alerted(opened_before=time.time() - 10) == []
    [found] = incidents.not_alerted(opened_before=time.time() + 1)
    assert found.level == "fatal"
    incidents.mark_alerted(found.id)
    assert incidents.not_alerted(opened_before=time.time() + 1) == []

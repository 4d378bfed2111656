"""Promise: a lease has one holder, as long as the work lasts, and neither a wrong clock nor a dead holder
keeps it for long."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.ledger import leases
from pipeline.models import Lease
from tests.databases import on_postgresql
from tests.waiting import until


def test_a_lease_has_one_holder(ledger: str) -> None:
    """Prolonged by its holder, taken by another when it is given back or has ended."""
    assert leases.acquire("sweep", "a", seconds=60)
    assert leases.acquire("sweep", "a", seconds=60)
    assert not leases.acquire("sweep", "b", seconds=60)
    leases.release("sweep", "b")
    assert not leases.acquire("sweep", "b", seconds=60)
    assert leases.acquire("sweep", "a", seconds=-1)
    assert leases.acquire("sweep", "b", seconds=60)
    leases.release("sweep", "b")
    with leases.held("sweep", seconds=60) as mine, leases.held("sweep", seconds=60) as second:
        assert (mine, second) == (True, False)
    assert leases.acquire("sweep", "c", seconds=60)


@pytest.mark.parametrize("off", [3600.0, 61.0])
def test_a_lease_that_ends_too_far_away_is_not_believed(ledger: str, off: float) -> None:
    """Whose clock was ahead and who then died does not block the sweeps."""
    Lease.insert(name="settle", holder="dead", expires_at=time.time() + off).execute()
    assert leases.acquire("settle", "me", seconds=8)
    assert not leases.acquire("settle", "you", seconds=8)


def test_a_lease_that_may_be_is_believed(ledger: str) -> None:
    """Up to the longest that one may last."""
    Lease.insert(name="settle", holder="other", expires_at=time.time() + 55).execute()
    assert not leases.acquire("settle", "me", seconds=8)


def test_a_lease_lasts_as_long_as_what_it_is_for(ledger: str) -> None:
    """It is prolonged while the work goes on, and given back at its end."""
    with leases.held("settle", seconds=0.6) as mine:
        assert mine
        begun = Lease.get().expires_at
        until(lambda: Lease.get().expires_at > begun + 0.6, seconds=10, what="prolonged more than once")
        with leases.held("settle", seconds=0.6) as second:
            assert not second
    assert Lease.select().count() == 0
    assert not [thread for thread in threading.enumerate() if "_prolong" in thread.name]


def test_a_lease_that_was_lost_stays_lost(ledger: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who took it in the meantime, of a process that had stopped for too long, keeps it."""
    with leases.held("settle", seconds=0.6):
        Lease.update(holder="other", expires_at=time.time() + 30).execute()
        until(lambda: "was lost" in caplog.text, seconds=10, what="seen")
    assert Lease.get().holder == "other"


def test_no_lease_is_longer_than_may_be(ledger: str) -> None:
    """It would not be believed."""
    with pytest.raises(ValueError, match="60"):
        leases.acquire("settle", "me", seconds=61)


@on_postgresql
@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_wrong_clock_of_this_machine(ledger: str, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """Neither takes another's lease nor leaves one that is believed for long: the server's clock counts."""
    right = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + off)
        assert leases.acquire("settle", "wrong", seconds=8)
    assert 5 < Lease.get().expires_at - right() < 9
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + off)
        assert not leases.acquire("settle", "me", seconds=8)

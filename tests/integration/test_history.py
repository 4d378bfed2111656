"""Promise: each minute has one row, written soon after its end, and true also when late; rates agree."""

from __future__ import annotations

import time

import pytest

from pipeline.ledger import history
from pipeline.ledger.history import MINUTE_SECONDS, Sample
from pipeline.models import Sample as Row
from pipeline.models import Write
from tests.ledger import confirmed, failed, purge, queued

#: A minute's begin, long ago.
BEGIN = 1_700_000_040


def ended(rows: object, at: float, *, latency: float = 0) -> None:
    """Let a write have ended then."""
    write_id = rows.write_id  # type: ignore[attr-defined]
    Write.update(finished_at=at, queued_at=at - latency).where(Write.id == write_id).execute()


def test_a_minute(ledger: str) -> None:
    """Who ended in it, purged or not, how long it took, and what waits."""
    for second, latency in ((0, 1.0), (30, 2.0), (59.9, 40.0)):
        ended(confirmed(), BEGIN + second, latency=latency)
    last = failed()
    ended(last, BEGIN + 5)
    purge(last)
    for at in (BEGIN - 0.1, BEGIN + 60):
        ended(confirmed(), at)
    Write.update(queued_at=time.time() - 500).where(Write.id == queued().write_id).execute()
    history.record(BEGIN + 62)
    assert [row.minute for row in history.read(0)] == [BEGIN - 60], "it may not be complete yet"
    for _ in range(2):
        history.record(BEGIN + 63)
    [found] = history.read(BEGIN)
    assert found.oldest_pending_seconds == pytest.approx(500, abs=20)
    assert found == Sample(
        minute=BEGIN,
        completed=3,
        failed=1,
        latency_p50_seconds=pytest.approx(2, abs=1e-3),
        latency_p95_seconds=pytest.approx(40, abs=1e-3),
        latency_p99_seconds=pytest.approx(40, abs=1e-3),
        oldest_pending_seconds=found.oldest_pending_seconds,
        waiting=1,
        active=0,
        delayed=0,
    )


def test_minutes_that_nobody_has_written(ledger: str) -> None:
    """The last ten are filled, without a depth, and the one in which workers stopped; the rest is a gap."""
    history.record(BEGIN + 63)
    for minute in (1, 30, 95):
        ended(confirmed(), BEGIN + minute * 60 + 20)
    history.record(BEGIN + 100 * 60 + 63)
    found = {(row.minute - BEGIN) // 60: (row.completed, row.waiting) for row in history.read(BEGIN)}
    assert found == {
        0: (0, 0),
        1: (1, None),
        **{minute: (int(minute == 95), None) for minute in range(91, 100)},
        100: (0, 0),
    }


def test_rows_are_kept_for_eight_days(ledger: str) -> None:
    """What is older goes, a bounded number at once."""
    first = BEGIN - history.KEPT_SECONDS
    old = range(first - 150 * 60, first + 10 * 60, 60)
    Row.insert_many([{"minute": minute, "completed": 0, "failed": 0} for minute in old]).execute()
    history.record(BEGIN + 63)
    left = [row.minute for row in history.read(0)]
    assert left[0] == old[history.DELETED_AT_ONCE]
    history.record(BEGIN + 123)
    assert history.read(0)[0].minute == first + MINUTE_SECONDS


def test_rates(ledger: str) -> None:
    """With rows or without, and for what no row has yet."""
    now = BEGIN + 3600 + 25
    for ago in (10, 20, 100, 290, 1000, 3590, 3610):
        ended(confirmed(), now - ago)
    ended(failed(), now - 90)
    expected = {
        "completed_per_minute": {"1": 2.0, "5": 4 / 5, "60": 6 / 60},
        "failed_per_minute": {"1": 0.0, "5": 1 / 5, "60": 0.017},
    }
    assert history.rates(now) == expected
    for minute in range(-2, 60):
        history.record(BEGIN + minute * 60 + 63)
    assert history.rates(now) == expected
    Row.delete().where(Row.minute < BEGIN + 1800).execute()
    assert history.rates(now) == expected, "before the first row as after the last"


def test_a_clock_that_was_ahead(ledger: str) -> None:
    """For one sweep of one machine: the minutes after it are written, and the rates are those of now."""
    history.record(BEGIN + 63)
    history.record(BEGIN + 2 * 86_400)
    Row.update(completed=600).where(Row.minute > BEGIN + 86_400).execute()
    ended(confirmed(), BEGIN + 130)
    history.record(BEGIN + 183)
    assert [row.completed for row in history.read(BEGIN) if row.minute <= BEGIN + 120] == [0, 0, 1]
    assert history.rates(BEGIN + 185)["completed_per_minute"] == {"1": 1.0, "5": 1 / 5, "60": 0.017}

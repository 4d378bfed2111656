"""Promise: Sentry hears of each run of the purge, and so misses the one that does not come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.purge import purge
from pipeline import alerts, monitor
from pipeline.settings import Settings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CRONTAB = "*/10 * * * *"


def use_sentry(dsn: str | None) -> None:
    """Let this process's client talk to that Sentry."""
    alerts.start_sentry(Settings(_env_file=None, sentry_dsn=dsn, sentry_environment="tests"))  # type: ignore[call-arg]


@pytest.fixture
def started(kent: Any, client: Any) -> Iterator[Any]:
    """The fake Sentry, with this process's client talking to it."""
    use_sentry(kent.dsn)
    yield kent
    use_sentry(None)


def told(kent: Any) -> list[tuple[str, str]]:
    """Run and status of each check-in that has arrived."""
    alerts.flush(5)
    return [(check_in["check_in_id"], check_in["status"]) for check_in in kent.check_ins()]


def test_a_run_checks_in_twice(started: Any) -> None:
    """With the schedule, so that the monitor is there from the first run on, and how long it took."""
    purge.fn()
    [(first, begun), (second, ended)] = told(started)
    assert (first, begun, ended) == (second, "in_progress", "ok")
    begin, end = started.check_ins()
    assert begin["monitor_slug"] == end["monitor_slug"] == "credential-pipeline-purge"
    assert begin["environment"] == "tests"
    assert "duration" not in begin
    assert 0 < end["duration"] < 60
    assert begin["monitor_config"] == end["monitor_config"]
    assert begin["monitor_config"]["schedule"] == {"type": "crontab", "value": CRONTAB}
    assert begin["monitor_config"]["timezone"] == "UTC"
    assert started.events() == []


def test_a_run_that_fails(started: Any) -> None:
    """It is an error, and the exception goes on to whoever runs the job."""
    with pytest.raises(OSError, match="the disk is full"), monitor.checked_in("purge", CRONTAB):
        raise OSError("the disk is full")
    [(first, begun), (second, ended)] = told(started)
    assert (first, begun, ended) == (second, "in_progress", "error")
    assert "the disk is full" not in str(started.items())


def test_two_at_once(started: Any) -> None:
    """Of two schedulers: each run is one of its own, and neither is taken for the other's end."""
    with monitor.checked_in("purge", CRONTAB), monitor.checked_in("purge", CRONTAB):
        pass
    runs = told(started)
    assert [status for _, status in runs] == ["in_progress", "in_progress", "ok", "ok"]
    assert [run for run, _ in runs[:2]] == [run for run, _ in reversed(runs[2:])]
    assert len({run for run, _ in runs}) == 2


def test_without_sentry(kent: Any, client: Any) -> None:
    """The job is done all the same, and nobody is told."""
    use_sentry(None)
    purge.fn()
    assert kent.items() == []

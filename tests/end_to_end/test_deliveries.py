"""Promise: what ends its worker is a dead letter after three deliveries, and takes nobody with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded.workers import Workers
from pipeline.models import DeadLetter, Write
from tests.issuer import document
from tests.waiting import until
from tests.workers import as_supervisor


@pytest.fixture
def start_deadly(
    start_workers: Callable[..., Workers], start: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Workers]:
    """Start workers that die of some documents, in mock mode."""
    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    monkeypatch.setenv("RETRY_MIN_BACKOFF_MS", "200")
    root = str(Path(__file__).parents[2])
    return lambda: start_workers(
        environment={**os.environ, "PYTHONPATH": root}, roster="tests.end_to_end.rosters.deadly"
    )


def items(count: int, *, bad: int, holder: str) -> list[dict[str, Any]]:
    """What an issuer syncs; one of them is not like the others."""
    found = [{"credential_id": f"c{n}", "document": document(n)} for n in range(count)]
    found[bad]["document"] = {**document(bad), "holder": holder}
    return found


@pytest.mark.parametrize(
    ("database_url", "alone"), [("postgresql", True), ("sqlite", False)], indirect=["database_url"]
)
def test_a_write_that_kills_its_worker(client: Any, start_deadly: Callable[[], Workers], alone: bool) -> None:
    """Three deaths, one dead letter that says so; its 39 neighbours, in its message or not, are completed.

    Each takes longer than the deadly one, so that all that are begun beside it die with it.
    """
    from pipeline.credentials import issue, sync

    workers = start_deadly()
    if alone:
        for item in items(40, bad=7, holder="deadly"):
            issue(**item)
    else:
        sync(items(40, bad=7, holder="deadly"))

    def is_over() -> bool:
        counts = client.get_job_counts()
        return bool(counts["completed"] == 39 and counts["failed"] == 1)

    assert as_supervisor(workers, is_over) == 3
    status = client.get_blockchain_write_status("c7")
    assert status["error"]["code"] == "WorkerKilled"
    assert status["error"]["permanent"]
    assert status["attempts"] == 1
    assert DeadLetter.select().count() == 1
    assert {row.attempts for row in Write.select().where(Write.state == "confirmed")} == {1}


@pytest.mark.one_database
def test_something_unforeseen_is_three_attempts_of_one(
    client: Any, start_deadly: Callable[[], Workers]
) -> None:
    """An exception that nobody knows: tried as often as others, and its neighbours do not wait for it."""
    from pipeline.credentials import sync

    start_deadly()
    sync(items(40, bad=7, holder="unforeseen"))
    until(lambda: client.get_job_counts()["completed"] == 39, seconds=30, what="39 completed")
    until(lambda: client.get_job_counts()["failed"] == 1, seconds=30, what="one failed")
    status = client.get_blockchain_write_status("c7")
    assert (status["attempts"], status["error"]["code"]) == (3, "UnexpectedError")
    assert {row.attempts for row in Write.select().where(Write.state == "confirmed")} == {1}

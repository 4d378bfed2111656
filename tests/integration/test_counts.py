"""Promise: counts are those of the lists, whatever happens to the rows, and cost the same for a million."""

from __future__ import annotations

import time

import pytest

from pipeline import status
from pipeline.database import database
from pipeline.ledger import counts, dead_letters, verification
from pipeline.models import DeadLetter, Write, WriteCount
from tests.ledger import STATES, purge_completed, queue
from tests.racing import in_threads


def listed() -> dict[str, int]:
    """How many each list has."""
    return {state: len(status.jobs(state, 0, 10_000)) for state in counts.STATUSES}


def test_counts_are_those_of_the_lists(ledger: str) -> None:
    """In every state, and after a retry, a purge, a replay and a row that is gone."""
    for bring in STATES.values():
        for _ in range(2):
            bring()
            assert status.counts() == listed()
    Write.update(due_at=time.time() + 60).where(Write.state == "queued").execute()
    assert status.counts() == listed()
    assert status.counts()["delayed"] == 2
    purge_completed(finished_before=2**40)
    assert status.counts() == listed()
    dead_letters.requeue([row.id for row in Write.select()], resolution="replayed")
    assert status.counts() == listed()
    DeadLetter.delete().execute()  # they refer to it
    Write.delete().where(Write.state == "queued").execute()
    assert status.counts() == listed() == {**status.counts(), "waiting": 0, "delayed": 0}


def test_what_is_rolled_back_does_not_count(ledger: str) -> None:
    """Neither for who asks meanwhile nor afterwards."""
    with database.atomic() as outer:
        queue(5)
        assert status.counts()["waiting"] == 5
        outer.rollback()
    assert status.counts()["waiting"] == 0


def test_many_at_once(ledger: str) -> None:
    """Ten threads queue and begin, and two sum up meanwhile: nobody waits, nothing is counted twice."""

    def work(number: int) -> None:
        ids = queue(20, prefix=f"t{number}-")
        for write_id in ids[:10]:
            verification.begin([write_id])
            counts._compact() if number < 2 and "postgres" in ledger else counts.compact()

    in_threads(10, work)
    assert status.counts() == listed()
    assert (status.counts()["waiting"], status.counts()["active"]) == (100, 100)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_sum_is_taken_now_and_then(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is never much to be added."""
    monkeypatch.setattr(counts, "MAX_ROWS", 10)
    for write_id in queue(20):
        verification.begin([write_id])
    before = status.counts()
    assert WriteCount.select().count() > 10
    counts.compact()
    assert WriteCount.select().count() == 2
    assert status.counts() == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_without_a_sweep_who_reads_sums_up(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs, or Redis is away, and intake goes on."""
    monkeypatch.setattr(counts, "MAX_ROWS", 10)
    monkeypatch.setattr(counts, "MAX_ROWS_READ", 15)
    ids = queue(20)
    for write_id in ids[:10]:
        verification.begin([write_id])
    assert WriteCount.select().count() > 15
    before = status.counts()
    assert WriteCount.select().count() == 2
    assert status.counts() == before == listed()

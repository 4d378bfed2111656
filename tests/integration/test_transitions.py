"""Promise: the log has each step of a job once, with its ids, when it is true; and few lines for many."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

import pipeline.actors  # noqa: F401 - events and messages go through the broker
from pipeline import completion, deadletters, events, replaying, retention
from pipeline.credentials import sync
from pipeline.database import database
from pipeline.ledger import (
    batches,
    control,
    dead_letters,
    finality,
    joining,
    nonces,
    transactions,
    verification,
)
from pipeline.ledger.finality import Place
from pipeline.models import Batch, State, Write
from tests.issuer import document
from tests.ledger import (
    ACCOUNT,
    FAILING,
    MINED,
    UNREACHABLE,
    Rows,
    failed,
    queue,
    queued,
    settled,
    sign,
    verified,
)

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

LOGGER = "pipeline.transitions"

Lines = list[dict[str, Any]]


@pytest.fixture
def log(client: Any, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the pipeline logs from INFO on."""
    caplog.set_level(logging.INFO, "pipeline")
    return caplog


def steps(log: pytest.LogCaptureFixture, *names: str) -> Lines:
    """What the lines of these steps, or of all, have as fields; the log is empty then."""
    found = [vars(record) for record in log.records if record.name == LOGGER]
    log.clear()
    return [line for line in found if not names or line["event"] in names]


def ids(rows: Rows) -> tuple[str, str]:
    """Job and credential of a write."""
    write = Write.get_by_id(rows.write_id)
    return write.job_id, write.credential_id


def of_job(line: dict[str, Any]) -> tuple[str, str]:
    """The same, of a line."""
    return line["job_id"], line["credential_id"]


def test_the_way_to_the_chain(log: pytest.LogCaptureFixture) -> None:
    """Each step once, with batch and transaction from where there are any."""
    rows = settled()
    transactions.record_mined(rows.transaction_id, MINED)  # a later sweep
    completion.complete(rows.batch_id)
    completion.complete(rows.batch_id)  # a second message
    lines = steps(log)
    assert [line["event"] for line in lines] == ["verified", "written", "mined", "completed"]
    assert {of_job(line) for line in lines} == {ids(rows)}
    assert {line["batch_id"] for line in lines} == {rows.batch_id}
    hash_ = Batch.get_by_id(rows.batch_id).transaction_hash
    assert [line["transaction_hash"] for line in lines[1:]] == [hash_] * 3
    assert {line["levelno"] for line in lines} == {logging.INFO}


def test_ways_back(log: pytest.LogCaptureFixture) -> None:
    """A reorg before and after a confirmation, and a nonce that is lost: each is a warning."""
    rows = settled()
    completion.complete(rows.batch_id)
    steps(log)
    finality.unconfirm(Place(rows.batch_id, MINED.block_number, MINED.block_hash))
    events.publish()
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    nonces.write_again(rows.batch_id, reason="NonceConflict")
    lines = steps(log)
    assert [line["event"] for line in lines] == ["unconfirmed", "mined", "unmined", "unwritten"]
    assert {(of_job(line), line["batch_id"]) for line in lines} == {(ids(rows), rows.batch_id)}
    assert [line["levelname"] for line in lines if line["event"] != "mined"] == ["WARNING"] * 3


def test_attempts(log: pytest.LogCaptureFixture) -> None:
    """What is tried again later says so with the number of the attempt; what is not has failed."""
    alone, member = queued(), verified()
    verification.begin([alone.write_id])
    steps(log)
    verification.fail_attempt([alone.write_id], UNREACHABLE, **FAILING)
    batches.fail_attempt(member.batch_id, UNREACHABLE, **FAILING)
    delayed = steps(log)
    assert [(line["event"], of_job(line), line["attempt"]) for line in delayed] == [
        ("delayed", ids(alone), 1),
        ("delayed", ids(member), 1),
    ]
    assert {(line["stage"], line["error"], line["reason"]) for line in delayed} == {
        ("a stage", "NodeUnreachable", "no answer")
    }
    dead = failed()
    events.publish()
    [line] = steps(log, "failed")
    assert (of_job(line), line["batch_id"], line["attempt"]) == (ids(dead), dead.batch_id, 1)
    assert (line["stage"], line["error"]) == ("chain_write", "NodeUnreachable")


def test_what_people_do(log: pytest.LogCaptureFixture) -> None:
    """Replay, discard, pause, resume, purge."""
    again, given_up = failed(), failed()
    events.publish()
    steps(log)
    replaying.replay([again.write_id], resolution="replayed")
    deadletters.discard(str(given_up.letter_id))
    control.set_paused(True)
    control.set_paused(False)
    Write.update(finished_at=1).where(Write.id == given_up.write_id).execute()
    retention.purge()
    retention.purge()
    lines = steps(log)
    assert [line["event"] for line in lines] == ["replayed", "discarded", "paused", "resumed", "purged"]
    assert [of_job(line) for line in lines[:2]] == [ids(again), ids(given_up)]
    assert lines[-1]["failed_removed"] == 1


def test_handed_in(log: pytest.LogCaptureFixture) -> None:
    """New ones are queued; the same again is the same job, and a step only where that had failed."""
    one = [{"credential_id": "c", "document": document(1)}]
    for _ in range(2):
        sync(one)
    [line] = steps(log)
    assert (line["event"], of_job(line)) == ("queued", (Write.get().job_id, "c"))
    dead_letters.bury([Write.get().id], UNREACHABLE, state=State.QUEUED, stage="a stage")
    sync(one)
    gone, again = steps(log)
    assert (gone["event"], again["event"], again["reason"]) == ("failed", "queued", "queued again")
    assert of_job(gone) == of_job(again) == of_job(line)


def test_what_is_rolled_back_is_not_told(log: pytest.LogCaptureFixture) -> None:
    """A line is about what has happened, so that it waits for the commit."""
    with database.atomic() as outer:
        rows = verified()
        control.set_paused(True)
        sync([{"credential_id": "c", "document": document(1)}])
        assert steps(log) == []
        outer.rollback()
    with database.atomic():
        control.set_paused(False)
        with database.atomic() as inner:
            sync([{"credential_id": "c", "document": document(1)}])
            inner.rollback()
        assert steps(log) == []
    assert [line["event"] for line in steps(log)] == ["resumed"]
    assert Write.get_or_none(Write.id == rows.write_id) is None


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_many(log: pytest.LogCaptureFixture, level: int) -> None:
    """Hundreds that go together are a line a step with their count; at DEBUG a line each besides."""
    log.set_level(level, "pipeline")
    credentials = [{"credential_id": f"c{number}", "document": document(number)} for number in range(600)]
    sync(credentials)
    write_ids = [row.id for row in Write.select(Write.id)]
    verification.begin(write_ids)
    [batch_id] = joining.join(write_ids, [], lane="normal", max_size=600, linger_seconds=0)
    stored = batches.submit(batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert stored is not None
    transactions.record_mined(stored.id, MINED)
    transactions.settle(batch_id)
    completion.complete(batch_id)
    lines = steps(log)
    sums = [(line["event"], line["count"]) for line in lines if line["levelno"] == logging.INFO]
    # Events are stored 500 jobs to a row.
    assert sums == [
        *((event, 600) for event in ("queued", "verified", "written", "mined")),
        *(("completed", 500), ("completed", 100)),
    ]
    each = Counter(line["event"] for line in lines if line["levelno"] == logging.DEBUG)
    expected = (
        {}
        if level == logging.INFO
        else dict.fromkeys(("queued", "verified", "written", "mined", "completed"), 600)
    )
    assert each == expected


def test_ten_are_a_line_each(log: pytest.LogCaptureFixture) -> None:
    """So that a small batch can be followed at INFO."""
    for count in (10, 11):
        write_ids = queue(count, prefix=f"{count}-")
        verification.begin(write_ids)
        joining.join(write_ids, [], lane="normal", max_size=count, linger_seconds=0)
        assert len(steps(log, "verified")) == (10 if count == 10 else 1)

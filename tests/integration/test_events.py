"""Promise: whoever listens hears of each end of a job, also when Redis was away or the process has died."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import pipeline.actors  # noqa: F401 - results and messages go through the broker
from pipeline import completion, events, verification
from pipeline.errors import NodeUnreachable
from pipeline.events import subscribe
from pipeline.ledger import batches, dead_letters, finality, outbox
from pipeline.ledger.finality import Place
from pipeline.models import Journal, Outbox, State, Write
from pipeline.settings import get_settings
from tests.ledger import MINED, Rows, confirmed, failed, settled
from tests.racing import in_threads
from tests.waiting import until


def heard(*, after: str | None = "0") -> list[dict[str, Any]]:
    """All that is kept after that id."""
    return list(subscribe(after=after, idle_seconds=0.1))


def job(rows: Rows) -> tuple[str, str]:
    """Job and credential of a write."""
    write = Write.get_by_id(rows.write_id)
    return write.job_id, write.credential_id


def test_completed_at_once(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With where it is anchored; the log has it too, and nothing waits to be published."""
    caplog.set_level(logging.INFO, "pipeline")
    rows = settled()
    completion.complete(rows.batch_id)
    [event] = heard()
    job_id, credential_id = job(rows)
    assert (event["event"], event["job_id"], event["credential_id"]) == ("completed", job_id, credential_id)
    assert (event["block_number"], event["mock"]) == (MINED.block_number, False)
    assert event["at"].endswith("Z")
    assert Outbox.select().count() == 0
    assert f"completed: {credential_id}" in caplog.messages


def test_failed_and_pending_again(client: Any) -> None:
    """A dead letter, its replay, and a reorg: each is told, with its reason."""
    dead, gone = failed(), confirmed()
    dead_letters.requeue([dead.write_id], resolution="replayed")
    finality.unconfirm(Place(gone.batch_id, MINED.block_number, MINED.block_hash))
    events.publish()
    told = [(e["event"], e["job_id"], e.get("error") or e.get("reason")) for e in heard()]
    assert told == [
        ("failed", job(dead)[0], "NodeUnreachable"),
        ("completed", job(gone)[0], None),
        ("pending", job(dead)[0], "replayed"),
        ("pending", job(gone)[0], "reorg"),
    ]


def test_what_is_rolled_back_is_not_told(client: Any) -> None:
    """The event is stored in the transaction that makes it true."""
    from pipeline.database import database

    with database.atomic() as transaction:
        failed()
        events.publish()
        transaction.rollback()
    events.publish()
    assert heard() == []


def test_what_is_committed_is_told_then(client: Any) -> None:
    """Whoever moves it inside a transaction of his own need not wait for a sweep."""
    from pipeline.database import database

    with database.atomic():
        failed()
        events.publish()
        assert heard() == []
    assert [event["event"] for event in heard()] == ["failed"]


def test_redis_away(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once it is back, once."""
    rows = settled()
    with monkeypatch.context() as away:
        away.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        get_settings.cache_clear()
        completion.complete(rows.batch_id)
    get_settings.cache_clear()
    assert Outbox.select().count() == 1
    events.publish()
    events.publish()
    assert len(heard()) == 1


def test_a_process_that_died_with_its_claim(client: Any) -> None:
    """While it may live nobody publishes, what came later neither; after a while all is anybody's again."""
    failed()
    assert len(outbox.claim()) == 1
    completion.complete(settled().batch_id)
    assert heard() == []
    Outbox.update(claimed_at=Outbox.claimed_at - outbox.CLAIM_SECONDS - 1).execute()
    events.publish()
    assert [event["event"] for event in heard()] == ["failed", "completed"]


def test_what_comes_while_others_are_published(client: Any) -> None:
    """Whoever is at it goes on until nothing is left: the second one has nothing to do."""
    failed()
    mine = outbox.claim()
    failed()
    assert outbox.claim() == []
    assert len(outbox.claim(published=mine)) == 1


def test_in_the_order_in_which_it_became_true(client: Any) -> None:
    """A job that failed, was replayed and is completed a moment later: the last event is the truth."""
    from pipeline import replaying

    rows = failed()
    replaying.replay([rows.write_id], resolution="replayed")
    verification.verify([rows.write_id])
    batch_id = Write.get_by_id(rows.write_id).batch_id
    assert batches.submit_mock(batch_id)
    completion.complete(batch_id)
    assert [event["event"] for event in heard()] == ["failed", "pending", "completed"]


def test_many_that_were_left(client: Any) -> None:
    """More than are claimed at once: the oldest first."""
    for number in range(outbox.ROWS + 5):
        outbox.add("failed", [(f"j{number}", "c")], error="E", stage="s")
    events.publish()
    assert [event["job_id"] for event in heard()] == [f"j{number}" for number in range(outbox.ROWS + 5)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_claim_at_once(client: Any) -> None:
    """The second waits for the first to have its rows, and finds none to be had."""
    from pipeline.database import database

    claimed = threading.Event()

    def is_waited_for() -> bool:
        query = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"
        return bool(database.execute_sql(query).fetchone()[0])

    def claim(number: int) -> int:
        if number:
            claimed.wait(10)
            return len(outbox.claim())
        with database.atomic():
            found = len(outbox.claim())
            claimed.set()
            until(is_waited_for, seconds=10, what="the second waits")
        return found

    failed()
    assert in_threads(2, claim) == [1, 0]


def test_ten_publish_at_once(client: Any) -> None:
    """Each event once, each job's in its order."""
    rows = [failed() for _ in range(5)]

    def turn(_: int) -> None:
        for row in rows:
            if dead_letters.requeue([row.write_id], resolution="replayed"):
                dead_letters.bury([row.write_id], NodeUnreachable("gone"), state=State.QUEUED, stage="s")
            events.publish()

    in_threads(10, turn)
    events.publish()
    told = heard()
    assert len({event["key"] for event in told}) == len(told) == 5 + 2 * Journal.select().count()
    for row in rows:
        mine = [event["event"] for event in told if event["job_id"] == job(row)[0]]
        assert mine == ["failed", *["pending", "failed"] * (len(mine) // 2)]


def test_from_where_one_has_stopped(client: Any) -> None:
    """The id of the last one that was heard is where the next subscription begins; keys are unique."""
    for _ in range(3):
        completion.complete(settled().batch_id)
    first, *rest = heard()
    assert heard(after=first["id"]) == rest
    assert heard(after=None) == []
    assert len({event["key"] for event in (first, *rest)}) == 3


@pytest.mark.parametrize("after", ["abc", "", "1-", "$", "-1"])
def test_what_is_no_id(client: Any, after: str) -> None:
    """Refused at the call: to wait for it would be for ever."""
    with pytest.raises(ValueError, match="after"):
        subscribe(after=after)


def test_the_stream_is_capped(client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the newest, about as many as it should."""
    monkeypatch.setattr(events, "KEPT", 100)
    jobs = [(f"j{number}", f"c{number}") for number in range(500)]
    for _ in range(2):
        outbox.add("failed", jobs, error="E", stage="s")
        events.publish()
    with redis.Redis.from_url(redis_url) as connection:
        assert 100 <= connection.xlen(events.STREAM) <= 300
    assert heard()[-1]["job_id"] == "j499"


@pytest.fixture
def listener(client: Any) -> Iterator[list[dict[str, Any]]]:
    """What a subscriber has heard so far."""
    found: list[dict[str, Any]] = []
    over = threading.Event()
    subscription = subscribe()

    def listen() -> None:
        for event in subscription:
            if event["event"] == "over":
                return
            found.append(event)

    thread = threading.Thread(target=listen)
    thread.start()
    yield found
    outbox.add("over", [("", "")])
    events.publish()
    thread.join(timeout=20)
    assert not thread.is_alive()
    over.set()


def test_a_subscriber_survives_a_wipe(listener: list[dict[str, Any]], redis_url: str) -> None:
    """Redis forgets, and counts anew: what comes afterwards is heard all the same."""
    completion.complete(settled().batch_id)
    until(lambda: len(listener) == 1, seconds=10, what="the first")
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
        connection.xadd(events.STREAM, {"event": '{"event": "old"}'}, id="1-1")
    until(lambda: len(listener) == 2, seconds=10, what="the second")
    completion.complete(settled().batch_id)
    until(lambda: len(listener) == 3, seconds=10, what="the third")

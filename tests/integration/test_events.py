"""Promise: whoever listens hears of each end of a job, also when Redis was away or the process has died."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import pipeline.actors  # noqa: F401 - results and messages go through the broker
from pipeline import completion, events
from pipeline.events import subscribe
from pipeline.ledger import dead_letters, finality, outbox
from pipeline.ledger.finality import Place
from pipeline.models import Outbox, Write
from pipeline.settings import get_settings
from tests.ledger import MINED, Rows, confirmed, failed, settled
from tests.waiting import until


def heard(*, after: str | None = "0") -> list[dict[str, Any]]:
    """All that is kept after that id."""
    return list(subscribe(after=after, idle_seconds=0.1))


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sweep publish at once what others have left."""
    monkeypatch.setattr(events, "LEFT_AFTER_SECONDS", -1.0)


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


def test_failed_and_pending_again(client: Any, left: None) -> None:
    """A dead letter, its replay, and a reorg: each is told, with its reason."""
    dead, gone = failed(), confirmed()
    dead_letters.requeue([dead.write_id], resolution="replayed")
    finality.unconfirm(Place(gone.batch_id, MINED.block_number, MINED.block_hash))
    events.publish_left()
    told = [(e["event"], e["job_id"], e.get("error") or e.get("reason")) for e in heard()]
    assert told == [
        ("failed", job(dead)[0], "NodeUnreachable"),
        ("completed", job(gone)[0], None),
        ("pending", job(dead)[0], "replayed"),
        ("pending", job(gone)[0], "reorg"),
    ]


def test_what_is_rolled_back_is_not_told(client: Any, left: None) -> None:
    """The event is stored in the transaction that makes it true."""
    from pipeline.database import database

    with database.atomic() as transaction:
        failed()
        transaction.rollback()
    events.publish_left()
    assert heard() == []


def test_redis_away(client: Any, left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once it is back, once."""
    rows = settled()
    with monkeypatch.context() as away:
        away.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        get_settings.cache_clear()
        completion.complete(rows.batch_id)
    get_settings.cache_clear()
    assert Outbox.select().count() == 1
    events.publish_left()
    events.publish_left()
    assert len(heard()) == 1


def test_a_process_that_died_with_its_claim(client: Any, left: None) -> None:
    """After a while it is anybody's again; two that publish at once do not take the same."""
    failed()
    assert len(outbox.claim(stored_before=2**40)) == 1
    assert outbox.claim(stored_before=2**40) == []
    Outbox.update(claimed_at=Outbox.claimed_at - outbox.CLAIM_SECONDS - 1).execute()
    events.publish_left()
    assert [event["event"] for event in heard()] == ["failed"]


def test_from_where_one_has_stopped(client: Any) -> None:
    """The id of the last one that was heard is where the next subscription begins; keys are unique."""
    for _ in range(3):
        completion.complete(settled().batch_id)
    first, *rest = heard()
    assert heard(after=first["id"]) == rest
    assert heard(after=None) == []
    assert len({event["key"] for event in (first, *rest)}) == 3


def test_the_stream_is_capped(client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the newest, about as many as it should."""
    monkeypatch.setattr(events, "KEPT", 100)
    jobs = [(f"j{number}", f"c{number}") for number in range(500)]
    for _ in range(2):
        events.publish(outbox.add("failed", jobs, error="E", stage="s"))
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
    events.publish(outbox.add("over", [("", "")]))
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

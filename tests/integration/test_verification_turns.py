"""Promise: a large chunk gives its thread back in time, and what it has not done is not lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
from pipeline import verification
from pipeline.models import State, Write
from tests.issuer import queue_documents


@pytest.mark.parametrize("priority", ["normal", "urgent"])
def test_the_rest_has_a_message_of_its_own(
    client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, priority: str
) -> None:
    """As many as there is time for are verified; the others' message is of the same priority."""
    monkeypatch.setattr(verification, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(verification, "CHUNK", 10)
    queue_documents(25)
    Write.update(priority=priority).execute()
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
        verification.verify([row.id for row in Write.select(Write.id).order_by(Write.id)])
        assert Write.select().where(Write.state == State.VERIFIED).count() == 10
        queue = "urgent" if priority == "urgent" else "hash_verify"
        [message] = [body for body in connection.hvals(f"dramatiq:{queue}.msgs") if b"hash_verify" in body]
    assert (b"hash_verify_urgent" in message) == (priority == "urgent")
    for _ in range(3):
        verification.verify([row.id for row in Write.select(Write.id)])
    assert Write.select().where(Write.state == State.VERIFIED).count() == 25
    assert {row.attempts for row in Write.select()} == {1}


def test_those_begun_before_give_their_thread_back(
    client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one is tried, the rest has a message of its own: it must not hold up what is urgent."""
    monkeypatch.setattr(verification, "TURN_SECONDS", -1.0)
    queue_documents(5)
    Write.update(deliveries=2, updated_at=1.0).execute()
    ids = [row.id for row in Write.select(Write.id).order_by(Write.id)]
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
        verification.verify(ids)
        verified = [row.id for row in Write.select(Write.id).where(Write.state == State.VERIFIED)]
        assert verified == ids[:1]
        bodies = connection.hvals("dramatiq:hash_verify.msgs")
    assert [json.loads(body)["args"] for body in bodies if b"hash_verify" in body] == [[ids[1:]]]


def test_who_can_not_be_alone_comes_back_later(
    client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is held up beside it: its thread is not, and it is not lost."""
    monkeypatch.setattr(verification, "ALONE_SECONDS", 0.05)
    queue_documents(1)
    Write.update(deliveries=1, updated_at=1.0).execute()
    [write] = Write.select()
    with redis.Redis.from_url(redis_url) as connection, verification._turns.together():
        connection.flushall()
        verification.verify([write.id])
        assert connection.llen("dramatiq:hash_verify") == 1
    assert Write.get().state == State.QUEUED
    verification.verify([write.id])
    assert Write.get().state == State.VERIFIED

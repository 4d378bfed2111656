"""Promise: a large chunk gives its thread back in time, and what it has not done is not lost."""

from __future__ import annotations

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

"""Promise: what Redis has lost is sent again in bounded chunks, and what it still has is not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import redis

from pipeline import messages
from pipeline.actors import broker
from pipeline.ledger import recovery
from pipeline.models import Credential, Write
from pipeline.reconciliation import reconcile
from tests import ledger


@pytest.fixture
def connection(client: Any, redis_url: str) -> Iterator[redis.Redis]:
    """To the Redis of this process's settings."""
    broker.close()
    with redis.Redis.from_url(redis_url) as connection:
        yield connection
    broker.close()


def named(connection: redis.Redis) -> list[int]:
    """The writes that the messages in the queue name, in their order."""
    ids = connection.lrange("dramatiq:hash_verify", 0, -1)
    bodies = connection.hmget("dramatiq:hash_verify.msgs", ids) if ids else []
    return list(chain.from_iterable(json.loads(body)["args"][0] for body in bodies))


def test_a_wiped_redis_gets_bounded_chunks(connection: redis.Redis) -> None:
    """More than a sweep may send: each sweep sends at most that many, each row is sent once."""
    reconcile()
    ids = ledger.queue(recovery.WRITES_PER_SWEEP + 700)
    messages.verify(ids, "normal")
    connection.flushall()
    reconcile()
    assert named(connection) == ids[: recovery.WRITES_PER_SWEEP]
    reconcile()
    assert named(connection) == ids
    reconcile()
    assert named(connection) == ids


def test_what_only_waits_is_not_sent_again(connection: redis.Redis, full_size: bool) -> None:
    """However long: their messages are still in Redis."""
    ids = ledger.queue(10_000 if full_size else 5_500)
    messages.verify(ids, "normal")
    reconcile()
    Write.update(sent_at=time.time() - 1000).execute()
    reconcile()
    assert named(connection) == ids


def test_a_delayed_send_is_not_sent_again_when_it_is_due(connection: redis.Redis) -> None:
    """Its message leaves the delay queue then: it is not older than that."""
    from pipeline.actors import hash_verify

    Credential.create(id="c1", metadata="{}")
    hash_verify.send_with_options(args=("c1", "ab" * 32), delay=3_600_000)
    write = Write.get()
    assert write.sent_at == write.due_at > time.time() + 3500
    assert recovery.claim_writes("normal", sent_before=time.time()) == []

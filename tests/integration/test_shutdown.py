"""Promise: once an issuer's program has shut the queue down, none of its connections to Redis is left."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from dramatiq.results import ResultMissing

from pipeline import deadletters
from pipeline.actors import hash_verify
from pipeline.models import Credential
from tests.ledger import failed
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def use_all() -> None:
    """A message, its result, which is not there, and an event with a result that goes."""
    Credential.create(id="new", metadata="{}")
    message = hash_verify.send("new", "ab" * 32)
    with pytest.raises(ResultMissing):
        message.get_result()
    assert deadletters.replay_all() == 1


def test_no_connection_is_left(client: Any, redis_url: str) -> None:
    """Whatever opened it; and what is called then opens new ones, which are closed again."""
    failed()
    with redis.Redis.from_url(redis_url) as other:
        before = len(other.client_list())
        use_all()
        assert len(other.client_list()) > before
        client.shutdown_blockchain_queue()
        until(lambda: len(other.client_list()) == before, seconds=10, what="all are closed")
        Credential.create(id="newer", metadata="{}")
        client.write_to_blockchain_queued("newer", "ab" * 32)
        assert len(other.client_list()) > before
        client.shutdown_blockchain_queue()
        until(lambda: len(other.client_list()) == before, seconds=10, what="all are closed again")

"""Promise: a message leaves once its row is committed, never without it, and nobody waits for Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from pipeline.database import database
from pipeline.embedded.valkey import ValkeyServer
from pipeline.errors import ConflictingWrite, UnknownCredential
from pipeline.models import Credential
from pipeline.settings import get_settings
from tests.intake import HASH, OTHER_HASH, WAYS, insert_row, messages, metadata_of, queue_by, writes
from tests.issuer import document


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction (or, in one, a savepoint) that ends with an error of the issuer's."""
    with suppress(ZeroDivisionError), database.atomic():
        yield
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["send", "many"])
def test_the_message_leaves_after_the_commit(credential: str, redis_url: str, way: str) -> None:
    """Inside an open transaction there is none yet."""
    with database.atomic():
        queue_by(way, credential, HASH)
        assert messages(redis_url) == []
    assert len(messages(redis_url)) == 1
    assert len(writes()) == 1


@pytest.mark.parametrize("way", ["send", "many"])
def test_no_message_after_a_rollback(credential: str, redis_url: str, way: str) -> None:
    """Neither row nor message, also not with the next commit."""
    with rolled_back():
        queue_by(way, credential, HASH)
    insert_row("another")
    assert writes() == []
    assert messages(redis_url) == []
    assert metadata_of(credential) == {}


@pytest.mark.parametrize("way", ["send", "many"])
def test_no_message_after_the_rollback_of_a_savepoint(credential: str, redis_url: str, way: str) -> None:
    """The outer transaction commits without it: a message would bring the write back to life."""
    with database.atomic():
        with rolled_back():
            queue_by(way, credential, HASH)
        insert_row("another")
    assert writes() == []
    assert messages(redis_url) == []


def test_a_caught_error_leaves_the_transaction_usable(credential: str, redis_url: str) -> None:
    """A conflict inside the issuer's transaction takes nothing else away."""
    with database.atomic():
        queue_by("send", credential, HASH)
        with pytest.raises(ConflictingWrite):
            queue_by("send", credential, OTHER_HASH)
        insert_row("another")
    assert len(writes()) == 1
    assert Credential.select().count() == 2


def test_issue_within_the_issuers_transaction(client: Any, redis_url: str) -> None:
    """Credential, write and the issuer's own rows live or die together."""
    from pipeline.credentials import issue

    with rolled_back():
        issue("c1", document(1))
    assert Credential.select().count() == 0
    with database.atomic():
        issue("c1", document(1))
        assert messages(redis_url) == []
    assert len(messages(redis_url)) == 1


@pytest.fixture
def redis_down(
    client: Any, start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ValkeyServer]:
    """A Valkey that has just died."""
    server = start_valkey()
    monkeypatch.setenv("REDIS_URL", server.url)
    get_settings.cache_clear()
    client.shutdown_blockchain_queue()
    server.kill()
    yield server
    client.shutdown_blockchain_queue()


@pytest.mark.parametrize("way", WAYS)
def test_redis_down(redis_down: ValkeyServer, way: str) -> None:
    """The row is stored, the caller sees no error and does not wait for long."""
    insert_row("c1")
    began = time.monotonic()
    job_id = queue_by(way, "c1", HASH)
    assert time.monotonic() - began < 5
    assert [write.job_id for write in writes()] == [job_id]
    assert queue_by(way, "c1", HASH) == job_id


def test_redis_down_while_issuing(redis_down: ValkeyServer) -> None:
    """The same for a credential that is issued, and for errors: they are the caller's as ever."""
    from pipeline.credentials import issue

    job_id = issue("c1", document(1))
    assert [write.job_id for write in writes()] == [job_id]
    with pytest.raises(UnknownCredential):
        queue_by("send", "nobody", HASH)

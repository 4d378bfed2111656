"""Promise: without Redis nothing is written; what it loses, or misses, costs time alone, and no restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from pipeline.actors import hash_verify
from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Workers
from pipeline.ledger import control
from pipeline.models import Credential, Transaction, Write
from pipeline.reconciliation import EPOCH
from tests.issuer import chain_variables, completed, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.truth import assert_truthful
from tests.waiting import until
from tests.workers import nothing_is_unacked, stopped

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

#: What the sweep logs while Redis is away, every two seconds.
NO_REDIS = "reconcile failed"


@pytest.fixture
def valkey(start_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    """A Valkey that is this test's alone, and forgets everything when it is killed."""
    return start_valkey(append_only=False)


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """For all who ask for Redis here."""
    return valkey.url


@contextmanager
def cut_off(valkey: ValkeyServer) -> Iterator[None]:
    """Valkey goes on, with what it has, but nobody reaches it."""
    away = valkey.socket_path.with_suffix(".away")
    with redis.Redis.from_url(valkey.url) as connection:
        connection.ping()
        valkey.socket_path.rename(away)
        connection.client_kill_filter(_type="normal", skipme=True)
    try:
        yield
    finally:
        away.rename(valkey.socket_path)


def test_the_limiter_has_no_redis(
    client: Any, start: Callable[..., Workers], anvil: Anvil, valkey: ValkeyServer
) -> None:
    """In the middle of eight writes: none is signed while Redis is away, all are completed afterwards."""
    variables = chain_variables(anvil)
    workers = start(batch_max_size=1, rate_limit_max=2, **variables)
    queue_documents(8)
    until(lambda: Transaction.select().count() >= 2, seconds=30, what="two signed")
    with cut_off(valkey):
        # A slot that is taken may still be up to a second away.
        until(lambda: workers.log().count(NO_REDIS) >= 2, seconds=10, what="Redis is missed")
        signed = Transaction.select().count()
        until(lambda: workers.log().count(NO_REDIS) >= 3, seconds=10, what="Redis is missed for longer")
        assert Transaction.select().count() == signed < 8
    until(completed(client, 8), seconds=40, what="8 completed")
    assert {row.attempts for row in Write.select()} == {1}
    assert workers.poll() is None
    assert_truthful(anvil, variables)


def test_redis_is_away_when_an_attempt_fails(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
    redis_url: str,
    valkey: ValkeyServer,
    full_size: bool,
) -> None:
    """Its retry can not be queued, another one is delayed: both get their attempts, nothing stays unacked."""
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    workers = start(retry_min_backoff_ms=1000, **variables)
    proxy.answer_error("eth_getBalance", "not today", times=2)
    held = proxy.hold_reply("eth_getBalance")
    queue_documents(1)
    assert held.happened.wait(30)
    delay_a_wrong_hash("wrong", seconds=4)
    end = time.monotonic() + (10 if full_size else 6)
    with cut_off(valkey):
        held.end()
        until(lambda: time.monotonic() > end, seconds=15, what="the outage is over")
        assert Write.get(Write.credential_id == "c0").due_at is not None
    until(lambda: client.get_job_counts()["failed"] == 1, seconds=10, what="the wrong one has failed")
    until(completed(client, 1), seconds=40, what="the other one is completed")
    attempts = {row.credential_id: row.attempts for row in Write.select()}
    assert attempts == {"c0": 3, "wrong": 1}
    assert workers.poll() is None
    until(nothing_is_unacked(redis_url), seconds=10, what="nothing is unacked")
    assert_truthful(anvil, variables)


def delay_a_wrong_hash(credential_id: str, *, seconds: int) -> None:
    """Queue what fails when it is due, so that it has nothing written, neither itself nor others."""
    Credential.create(id=credential_id, metadata="{}", data_hash="ab" * 32)
    hash_verify.send_with_options(args=(credential_id, "cd" * 32), delay=seconds * 1000)


def flush(valkey: ValkeyServer) -> None:
    """Somebody empties it."""
    with redis.Redis.from_url(valkey.url) as connection:
        connection.flushall()


def kill(valkey: ValkeyServer) -> None:
    """Without an append-only file it starts again empty."""
    valkey.kill()
    valkey.start()


@pytest.mark.parametrize("wipe", [flush, kill])
def test_redis_is_wiped(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    valkey: ValkeyServer,
    wipe: Callable[[ValkeyServer], None],
) -> None:
    """With 1,000 queued: they are queued again within ten seconds, and all completed, none twice."""
    variables = chain_variables(anvil)
    workers = start(**variables)
    until(lambda: control.read(EPOCH) is not None, seconds=10, what="Redis is known")
    with stopped(workers):  # so that they have fetched none of it
        queue_documents(1000)
        wipe(valkey)
    until(lambda: "1000 writes are sent again" in workers.log(), seconds=10, what="sent again")
    until(completed(client, 1000), seconds=20, what="1000 completed")
    assert Transaction.select().count() == len({row.batch_id for row in Transaction.select()})
    assert {row.attempts for row in Write.select()} == {1}
    assert workers.poll() is None
    assert_truthful(anvil, variables)

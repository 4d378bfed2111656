"""Promise: an idle system takes a credential at once, and hardly asks its servers meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pipeline.embedded.workers import Workers
from pipeline.ledger import control
from pipeline.models import Write
from tests.issuer import chain_variables, queue_documents
from tests.servers.anvil import Anvil
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

#: Median seconds from the call to the confirmed row: on two quiet cores about a fifteenth of these, and
#: more than these with consumers that poll and what settles at the ticker's pace (0.5 and 1.6).
MOCK_SECONDS, AUTOMINE_SECONDS = 0.4, 1.0

#: Redis commands a second of one process that has nothing to do, those inside of scripts too.
CALLS = 20

#: For how long they are counted.
IDLE_SECONDS = 8.0


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """To the workers' Redis."""
    with redis.Redis.from_url(redis_url) as made:
        yield made


def median_seconds(count: int) -> float:
    """Of so many credentials, one after the other."""
    took = []
    for number in range(count):
        begin = time.perf_counter()
        queue_documents(1, start=number)
        await_confirmation(number + 1)
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


def await_confirmation(count: int) -> None:
    """Until so many rows say so; with as good as no pause."""
    deadline = time.monotonic() + 30
    while Write.select().where(Write.state == "confirmed").count() < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_mock(client: Any, start: Callable[..., Workers]) -> None:
    """Three messages, each fetched at once."""
    start(blockchain_mock_enabled=True)
    assert median_seconds(15) < MOCK_SECONDS


def test_automine(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """The sweep that comes after the broadcast finds the block, and does not wait for the ticker."""
    start(rate_limit_max=1000, **chain_variables(anvil))
    assert median_seconds(15) < AUTOMINE_SECONDS


def test_redis_is_left_alone(
    client: Any, start: Callable[..., Workers], connection: redis.Redis, anvil: Anvil
) -> None:
    """Everything counts: looks, signs of life, sweeps, metrics."""
    start(**chain_variables(anvil))
    queue_documents(1)
    await_confirmation(1)
    noted = control.read(control.LAST_RECONCILE)
    until(lambda: control.read(control.LAST_RECONCILE) != noted, seconds=20, what="it has swept since")
    before, begin = calls(connection), time.monotonic()
    until(lambda: time.monotonic() - begin >= IDLE_SECONDS, seconds=2 * IDLE_SECONDS, what="time has passed")
    used = calls(connection) - before - 1  # the question itself
    assert used / (time.monotonic() - begin) <= CALLS


def calls(connection: redis.Redis) -> int:
    """All commands so far, as Redis counts them."""
    stats: Any = connection.info("commandstats")
    return sum(int(stat["calls"]) for stat in stats.values())

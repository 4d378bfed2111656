"""Promise: what Redis holds for a process that lives is delivered, whatever has become of its connection."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed

from pipeline.actors import broker, hash_verify_many
from pipeline.broker import PipelineBroker
from pipeline.consumer import Consumer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.settings import get_settings
from tests.racing import in_threads
from tests.servers.relay import Relay
from tests.waiting import until

HOUR_MS = 3_600_000

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def fresh(client: Any) -> Iterator[None]:
    """A broker on an empty Redis."""
    broker.close()
    yield
    broker.close()


def send(number: int, *, delay_ms: int | None = None) -> None:
    """A message that is known by its number."""
    broker.enqueue(hash_verify_many.message([number]), delay=delay_ms)


def consumer(queue: str = "hash_verify") -> Consumer:
    """What a worker makes at its start, and after each loss of its connection."""
    made = broker.consume(queue, prefetch=10, timeout=1)
    assert isinstance(made, Consumer)
    return made


def delivered(by: Consumer, count: int) -> list[MessageProxy]:
    """The next ``count`` messages, and none more."""
    found: list[MessageProxy] = []

    def all_there() -> bool:
        found.extend(message for message in [next(by)] if message is not None)
        return len(found) >= count

    until(all_there, seconds=10, what=f"{count} delivered")
    assert next(by) is None
    return found


def numbers(messages: list[MessageProxy]) -> list[int]:
    """By what they are known."""
    return [message.args[0][0] for message in messages]


def test_the_answer_to_a_fetch_is_lost() -> None:
    """The next consumer of the process delivers what was in it, but not what is being worked on."""
    first = consumer()
    send(1)
    [at_work] = delivered(first, 1)
    send(2)
    broker.redis.do_fetch("hash_verify", 10)
    second = consumer()
    assert numbers(delivered(second, 1)) == [2]
    second.ack(at_work)
    assert next(consumer()) is None


def test_the_threads_of_a_process_are_one_worker() -> None:
    """What one of them has fetched is known by its id, also to those that come after it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they meet
    try:
        for _ in range(20):
            made = PipelineBroker([])
            found = in_threads(12, lambda _, made=made: made.redis.broker_id)
            made.close()
            assert len(set(found)) == 1, found
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def relay(
    valkey_server: ValkeyServer, new_directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Relay]:
    """Between the broker and Redis."""
    with Relay(valkey_server.socket_path, new_directory("relay") / "redis.sock") as made:
        monkeypatch.setenv("REDIS_URL", f"unix://{made.path}")
        get_settings.cache_clear()
        yield made
        broker.close()


def test_it_is_told_that_the_answer_to_a_fetch_is_lost(relay: Relay) -> None:
    """Whoever asked again in place of that would leave what was in it with nobody while the process lives."""
    first = consumer()
    assert next(first) is None
    relay.lose_answer(b"fetch")
    send(1)
    with pytest.raises(ConnectionClosed):
        until(lambda: next(first) is not None, seconds=10, what="a message")
    assert relay.lost.is_set()
    assert numbers(delivered(consumer(), 1)) == [1]


def test_the_nearest_of_the_delayed_comes_first(redis_url: str) -> None:
    """What is far away is in Redis, and no worker holds it."""
    for number in range(20):
        send(number, delay_ms=HOUR_MS)
    send(20, delay_ms=10)
    mine = consumer("hash_verify.DQ")
    [message] = delivered(mine, 1)
    assert numbers([message]) == [20]
    mine.ack(message)
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.hlen("dramatiq:hash_verify.DQ.msgs") == 20
        assert not list(connection.scan_iter("dramatiq:__acks__.*"))


def test_delayed_ones_that_a_lost_connection_takes_along() -> None:
    """Dramatiq drops what its thread has of them; the next consumer delivers it again."""
    send(1, delay_ms=0)
    assert numbers(delivered(consumer("hash_verify.DQ"), 1)) == [1]
    assert numbers(delivered(consumer("hash_verify.DQ"), 1)) == [1]


def test_all_can_be_dropped(redis_url: str) -> None:
    """Those that are delayed, too."""
    send(1)
    send(2, delay_ms=HOUR_MS)
    broker.flush_all()
    with redis.Redis.from_url(redis_url) as connection:
        assert list(connection.scan_iter("dramatiq:hash_verify*")) == []

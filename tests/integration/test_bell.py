"""Promise: a message is fetched as soon as it is there, and one whose ring is lost within a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import redis
from dramatiq.broker import MessageProxy

from pipeline import redis_broker
from pipeline.actors import broker, hash_verify, hash_verify_many
from pipeline.bell import AWAY_SECONDS, Bell, Rings, channel_of
from pipeline.broker import PipelineBroker
from pipeline.consumer import GATHER_SECONDS, Consumer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.queues import HEARTBEATS_KEY, acks_key, messages_key
from pipeline.redis_broker import LOOK_SECONDS, delays_key, list_key
from tests.waiting import until

QUEUE, DELAYED = "hash_verify", "hash_verify.DQ"
HOUR_MS = 3_600_000

#: Seconds in which nothing but the bell brings a message: long enough for the slowest machine.
NEVER_SECONDS = 100.0

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def fresh(client: Any) -> Iterator[None]:
    """A broker on an empty Redis."""
    broker.close()
    yield
    broker.close()


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """To the same Redis."""
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def only_rings(monkeypatch: pytest.MonkeyPatch, connection: redis.Redis) -> Callable[[str, int], Consumer]:
    """Make a consumer whose process does not look at its queues; by its name, and how much it prefetches."""
    monkeypatch.setattr(redis_broker, "LOOK_SECONDS", NEVER_SECONDS)

    def make(queue: str, prefetch: int = 10) -> Consumer:
        made = consumer(queue, prefetch)
        await_listening(connection)
        assert next_of(made, seconds=0.2) is None  # it has looked once, and heard that it is connected
        return made

    return make


def consumer(queue: str, prefetch: int = 10) -> Consumer:
    """As a worker makes it; it returns to Dramatiq only when it has waited for long."""
    made = broker.consume(queue, prefetch=prefetch, timeout=int(NEVER_SECONDS * 1000))
    assert isinstance(made, Consumer)
    return made


def await_listening(connection: redis.Redis, listeners: int = 1) -> None:
    """Until so many processes would hear the bell."""
    channel = channel_of(connection)
    until(lambda: numbers_of(connection, channel) == listeners, seconds=10, what="it listens")


def numbers_of(connection: redis.Redis, channel: str) -> int:
    """How many listen to a channel."""
    [(_, count)] = connection.pubsub_numsub(channel)  # type: ignore[no-untyped-call]
    return int(count)


def next_of(of: Consumer, *, seconds: float) -> MessageProxy | None:
    """The next message within so many seconds, if any."""
    of.timeout, before = int(seconds * 1000), of.timeout
    end = time.monotonic() + seconds
    try:
        while True:
            message = next(of)
            if message is not None or time.monotonic() >= end:
                return message
    finally:
        of.timeout = before


def send(number: int, *, delay_ms: int | None = None) -> None:
    """A message that is known by its number."""
    broker.enqueue(hash_verify_many.message([number]), delay=delay_ms)


def store_without_a_ring(connection: redis.Redis, queue: str) -> None:
    """The body of a message; as a program of an earlier version sends, and as if a ring had been lost."""
    message = hash_verify_many.message([1]).copy(queue_name=queue, options={"redis_message_id": "m1"})
    connection.hset(messages_key(queue), "m1", message.encode())


def number_of(message: MessageProxy | None) -> int | None:
    """By what it is known."""
    return None if message is None else int(message.args[0][0])


def test_a_ring_before_the_wait_is_heard() -> None:
    """What comes between the look and the wait ends the wait."""
    rings = Rings()
    heard = rings.count
    rings.ring()
    begin = time.monotonic()
    rings.wait(heard, NEVER_SECONDS)
    assert time.monotonic() - begin < NEVER_SECONDS / 2


@pytest.mark.parametrize("by_another_process", [False, True])
def test_each_message_rings(only_rings: Callable[[str], Consumer], by_another_process: bool) -> None:
    """One after the other, at any moment of the consumer's: none has to wait for a look."""
    mine = only_rings(QUEUE)
    another = PipelineBroker([]) if by_another_process else broker
    with ThreadPoolExecutor(1) as pool, closing(another):
        for number in range(1, 301):
            found = pool.submit(next_of, mine, seconds=NEVER_SECONDS / 2)
            another.enqueue(hash_verify_many.message([number]))
            message = found.result()
            assert message is not None
            assert number_of(message) == number
            mine.ack(message)


def test_many_at_once_are_fetched_by_one_ring(
    only_rings: Callable[[str], Consumer], connection: redis.Redis
) -> None:
    """Only the first in an empty list rings; all are fetched."""
    mine = only_rings(QUEUE)
    before = published(connection)
    for number in range(5):
        send(number)
    assert published(connection) == before + 1
    assert [number_of(next_of(mine, seconds=10)) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_what_follows_closely_is_fetched_together(only_rings: Callable[[str], Consumer]) -> None:
    """The first comes at once; the next lets others come, so that batches get larger."""
    mine = only_rings(QUEUE)
    begin = time.monotonic()
    for number in range(2):
        send(number)
        assert number_of(next_of(mine, seconds=10)) == number
    assert time.monotonic() - begin >= GATHER_SECONDS[0]


def published(connection: redis.Redis) -> int:
    """How often anybody has rung, since the server's start."""
    stats: Any = connection.info("commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


def test_room_is_used_at_once(only_rings: Callable[..., Consumer]) -> None:
    """What did not fit into the prefetch is fetched as soon as something is acknowledged."""
    mine = only_rings(QUEUE, 2)
    for number in range(3):
        send(number)
    first, second = next_of(mine, seconds=10), next_of(mine, seconds=10)
    assert first is not None
    assert second is not None
    assert next_of(mine, seconds=0.2) is None
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(next_of, mine, seconds=NEVER_SECONDS / 2)
        mine.ack(first)
        assert number_of(found.result()) == 2


def test_what_went_back_is_fetched_again(only_rings: Callable[..., Consumer]) -> None:
    """Nobody rings for what there was no room for behind single messages."""
    mine = only_rings(QUEUE, 2)
    for number in range(2):
        broker.enqueue(hash_verify.message_with_options(args=(f"c{number}", "00" * 32, None)))
    single = next_of(mine, seconds=10)
    assert single is not None
    for number in range(3):
        send(number)
    assert number_of(next_of(mine, seconds=10)) == 0
    mine.ack(single)
    assert number_of(next_of(mine, seconds=NEVER_SECONDS / 2)) in (1, 2)  # they go back in any order


def test_a_delayed_one_comes_when_it_is_due(only_rings: Callable[[str], Consumer]) -> None:
    """Neither sooner nor much later, also when it is nearer than what is waited for."""
    mine = only_rings(DELAYED)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(next_of, mine, seconds=NEVER_SECONDS / 2)
        send(1, delay_ms=HOUR_MS)
        begin = time.time()
        send(2, delay_ms=300)
        assert number_of(found.result()) == 2
    assert 0.299 <= time.time() - begin < NEVER_SECONDS / 2


def test_a_lost_ring_costs_a_second(connection: redis.Redis) -> None:
    """Whoever has sent it did not ring: it is seen at the next look."""
    mine = consumer(QUEUE)
    await_listening(connection)
    assert next_of(mine, seconds=0.2) is None
    store_without_a_ring(connection, QUEUE)
    connection.rpush(list_key(QUEUE), "m1")
    begin = time.monotonic()
    assert number_of(next_of(mine, seconds=10)) == 1
    assert time.monotonic() - begin < LOOK_SECONDS + 1.5


def test_a_lost_ring_of_a_delayed_one(connection: redis.Redis) -> None:
    """The same for one that is due."""
    mine = consumer(DELAYED)
    await_listening(connection)
    assert next_of(mine, seconds=0.2) is None
    store_without_a_ring(connection, DELAYED)
    connection.zadd(delays_key(DELAYED), {"m1": 1000 * time.time() + 10})
    assert number_of(next_of(mine, seconds=10)) == 1


def test_what_a_dead_worker_had_is_inherited(connection: redis.Redis) -> None:
    """Nobody rings for it; also what it had of a delay queue."""
    mine, delayed = consumer(QUEUE), consumer(DELAYED)
    for one in (mine, delayed):
        assert next_of(one, seconds=0.2) is None
    connection.zadd(HEARTBEATS_KEY, {"dead": 1000 * time.time() - 60_000})
    for queue in (QUEUE, DELAYED):
        store_without_a_ring(connection, queue)
        connection.sadd(acks_key("dead", queue), "m1")
    for one in (mine, delayed):
        assert number_of(next_of(one, seconds=10)) == 1


def test_it_is_alive_while_it_has_nothing_to_do(connection: redis.Redis) -> None:
    """Otherwise others would take its messages: any of its consumers says so for all."""
    mine = consumer(QUEUE)
    assert next_of(mine, seconds=0.2) is None
    before = connection.zscore(HEARTBEATS_KEY, broker.redis.broker_id)
    assert next_of(mine, seconds=2 * LOOK_SECONDS) is None
    after = connection.zscore(HEARTBEATS_KEY, broker.redis.broker_id)
    assert before is not None
    assert after is not None
    assert after - before >= 1000 * LOOK_SECONDS / 2


@pytest.fixture
def mute(connection: redis.Redis, redis_url: str) -> Iterator[redis.Redis]:
    """A user who may do all, but use the channel."""
    connection.execute_command("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels")
    with redis.Redis.from_url(redis_url, username="mute", password="") as made:
        yield made
    connection.execute_command("ACL", "DELUSER", "mute")


def test_a_bell_that_may_not_be_rung(connection: redis.Redis, mute: redis.Redis) -> None:
    """Messages are sent all the same."""
    mute.register_script(redis_broker.ENQUEUE)(keys=["h", "l"], args=["id", "body", channel_of(mute), QUEUE])
    assert connection.lrange("l", 0, -1) == [b"id"]


def test_a_bell_that_may_not_be_heard(mute: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """It says so, once."""
    bell = Bell(mute, "mine")
    try:
        bell.of(QUEUE)
        tries = AWAY_SECONDS * 2.5
        end = time.monotonic() + tries
        until(lambda: time.monotonic() > end, seconds=2 * tries, what="it has tried again")
    finally:
        bell.stop()
    assert caplog.text.count("the bell is not heard") == 1


def test_redis_is_restarted(start_valkey: Callable[..., ValkeyServer]) -> None:
    """The bell is heard again, and what rang meanwhile is looked for."""
    server = start_valkey(append_only=True)
    with redis.Redis.from_url(server.url) as listening, redis.Redis.from_url(server.url) as other:
        bell = Bell(listening, "mine")
        try:
            rings = bell.of(QUEUE)
            await_listening(other)
            before = rings.count
            server.kill()
            server.start()
            await_listening(other)
            until(lambda: rings.count > before, seconds=10, what="it looks for what it has missed")
            heard = rings.count
            other.publish(channel_of(other), Bell(other, "another").word(QUEUE))
            rings.wait(heard, NEVER_SECONDS / 2)
            assert rings.count == heard + 1
        finally:
            bell.stop()
        assert "bell" not in {thread.name for thread in threading.enumerate()}

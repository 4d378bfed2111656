"""Promise: single messages that were fetched together are worked on together, and stay single in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.broker import MessageProxy

from pipeline.actors import broker, hash_verify, hash_verify_jobs, hash_verify_many
from pipeline.consumer import Consumer
from pipeline.merging import MOST, MergedMessage
from pipeline.models import DeadLetter, Write
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def fresh(client: Any) -> Iterator[None]:
    """A broker on an empty Redis."""
    broker.close()
    yield
    broker.close()


def send(number: int, **options: Any) -> dramatiq.Message[Any]:
    """A message of one write, as `.send()` leaves it."""
    message = hash_verify.message_with_options(args=(f"c{number}", f"{number:064x}", None), **options)
    return broker.enqueue(message)


def consumer(prefetch: int = 10) -> Consumer:
    """What a worker makes at its start."""
    made = broker.consume("hash_verify", prefetch=prefetch, timeout=1)
    assert isinstance(made, Consumer)
    return made


def next_of(by: Consumer) -> MessageProxy:
    """The next message that is delivered."""
    found: list[MessageProxy] = []

    def there() -> bool:
        found.extend(message for message in [next(by)] if message is not None)
        return bool(found)

    until(there, seconds=10, what="a message")
    return found[0]


def unacked(redis_url: str) -> int:
    """Messages that somebody has fetched and not finished."""
    with redis.Redis.from_url(redis_url) as connection:
        return sum(int(connection.scard(key)) for key in connection.scan_iter("dramatiq:__acks__.*"))


def stored(redis_url: str, queue: str = "hash_verify") -> int:
    """Messages whose content is in Redis."""
    with redis.Redis.from_url(redis_url) as connection:
        return int(connection.hlen(f"dramatiq:{queue}.msgs"))


def test_one_message_for_all_that_were_fetched(redis_url: str) -> None:
    """In their order, each with its id and arguments; one acknowledgement takes all of them away."""
    sent = [send(number) for number in range(7)]
    mine = consumer()
    merged = next_of(mine)
    assert merged.actor_name == hash_verify_jobs.actor_name
    assert merged.args[0] == [[message.message_id, *message.args] for message in sent]
    assert (unacked(redis_url), stored(redis_url)) == (7, 7)
    mine.ack(merged)
    assert (unacked(redis_url), stored(redis_url)) == (0, 0)
    assert mine.outstanding_message_count == 0
    assert next(mine) is None


def test_more_are_fetched_once_they_are_merged() -> None:
    """Dramatiq's prefetch is of a few; behind it there may be thousands."""
    for number in range(MOST + 20):
        send(number)
    mine = consumer(prefetch=4)
    sizes = [len(next_of(mine).args[0]) for _ in range(3)]
    assert sizes == [4, MOST, 16]


def test_no_more_than_the_prefetch_of_others() -> None:
    """A message of bulk intake stands for hundreds: those stay for other processes."""
    for number in range(20):
        broker.enqueue(hash_verify_many.message([number + 1]))
    mine = consumer(prefetch=4)
    assert [next_of(mine).actor_name for _ in range(4)] == [hash_verify_many.actor_name] * 4
    assert next(mine) is None
    assert mine.outstanding_message_count == 4


def test_what_is_fetched_behind_single_ones_goes_back(redis_url: str) -> None:
    """Fetched as if they were single, there is no room for them: other processes take them."""
    for number in range(6):
        send(number)
    mine = consumer(prefetch=4)
    mine.ack(next_of(mine))
    for number in range(30):
        broker.enqueue(hash_verify_many.message([number + 1]))
    got = [next_of(mine) for _ in range(4)]
    assert [isinstance(message, MergedMessage) for message in got] == [True, False, False, False]
    assert next(mine) is None
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.llen("dramatiq:hash_verify") == 27
    assert unacked(redis_url) == 5


def test_what_asks_for_something_of_its_own_stays_alone() -> None:
    """Options, and an attempt that has failed; those around them are merged."""
    send(0)
    send(1)
    alone = send(2, max_retries=7)
    send(3)
    send(4)
    mine = consumer()
    found = [next_of(mine) for _ in range(3)]
    assert [isinstance(message, MergedMessage) for message in found] == [True, False, True]
    assert found[1].message_id == alone.message_id
    assert found[1].options["max_retries"] == 7


def test_one_that_can_not_be_decoded_takes_nobody_along(redis_url: str) -> None:
    """It becomes a dead letter, its neighbours are delivered."""
    for number in range(3):
        send(number)
    broker.redis.do_enqueue("hash_verify", "broken", b"{")
    for number in range(3, 6):
        send(number)
    mine = consumer()
    sizes = [len(next_of(mine).args[0]) for _ in range(2)]
    assert sizes == [3, 3]
    assert DeadLetter.select().count() == 1
    assert unacked(redis_url) == 6


def test_given_back_one_by_one(redis_url: str) -> None:
    """At a shutdown all of them go back, to be fetched by whoever comes."""
    for number in range(5):
        send(number)
    mine = consumer()
    mine.requeue([next_of(mine)])
    assert unacked(redis_url) == 0
    assert len(next_of(consumer()).args[0]) == 5


def test_not_given_to_the_next_consumer_while_they_are_worked_on(redis_url: str) -> None:
    """The same process has lost its connection: what it has in hand is not lost."""
    for number in range(5):
        send(number)
    first = consumer()
    merged = next_of(first)
    second = consumer()
    assert next(second) is None
    second.ack(merged)
    assert stored(redis_url) == 0


def test_failed_ones_are_kept_one_by_one(redis_url: str) -> None:
    """As Dramatiq keeps a failed message."""
    for number in range(3):
        send(number)
    mine = consumer()
    mine.nack(next_of(mine))
    assert (unacked(redis_url), stored(redis_url)) == (0, 0)
    assert stored(redis_url, "hash_verify.XQ") == 3


def test_what_another_process_has_by_now_is_left_to_it(redis_url: str) -> None:
    """This one was taken for dead; its late acknowledgement takes nothing from the other."""
    for number in range(3):
        send(number)
    late = consumer()
    merged = next_of(late)
    with redis.Redis.from_url(redis_url) as connection:
        [acks] = connection.scan_iter("dramatiq:__acks__.*")
        connection.delete(acks)
    late.ack(merged)
    assert stored(redis_url) == 3


def test_unknown_ones_are_looked_at_by_themselves(client: Any) -> None:
    """There is no row for two of three: each goes out again, under its id, and is not merged any more."""
    from pipeline.credentials import sync
    from tests.issuer import document

    [job_id] = sync([{"credential_id": "c1", "document": document(1)}])
    broker.flush_all()
    strangers = [["s1", "nobody", "00" * 32, None], ["s2", "c1", "no hash"]]
    hash_verify_jobs.fn([strangers[0], [job_id, "c1", Write.get().data_hash, None], strangers[1]])
    assert Write.get(Write.job_id == job_id).state == "verified"
    mine = consumer()
    found = [next_of(mine) for _ in range(2)]
    assert [[message.message_id, *message.args] for message in found] == strangers
    assert not any(isinstance(message, MergedMessage) for message in found)

"""Messages that say "look at these rows". Losing one costs a delay: `pipeline.reconciliation` looks too."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dramatiq

from pipeline import current
from pipeline.ledger import recovery
from pipeline.ledger.sql import chunks
from pipeline.ledger.transactions import Settled

logger = logging.getLogger(__name__)

#: Writes that one message names.
CHUNK = 1000


def verify(write_ids: Sequence[int], priority: str) -> None:
    """Have queued writes verified."""
    actor_name = "hash_verify_urgent" if priority == "urgent" else "hash_verify_many"
    for part in chunks(write_ids, CHUNK):
        send(actor_name, list(part), priority=priority)


def verify_again(write_ids: Sequence[int]) -> None:
    """The same for writes that had a message before, each at its own priority."""
    for priority, ids in recovery.by_priority(write_ids).items():
        verify(ids, priority)


def write(lane: str, *, delay_ms: int | None = None) -> None:
    """A permit to write the most urgent ready batch."""
    send("chain_write", priority=lane, delay_ms=delay_ms)


def update(batch_id: int, lane: str) -> None:
    """Have the members of a settled batch confirmed."""
    send("db_update", batch_id, priority=lane)


def update_many(settled: Iterable[Settled]) -> None:
    """The same for several: one message names batches of at most `CHUNK` members together, or one."""
    for lane, batches in _by_lane(settled).items():
        for ids in _parts(batches):
            if len(ids) == 1:
                update(ids[0], lane)
            else:
                send("db_update", ids, priority=lane)


def _by_lane(settled: Iterable[Settled]) -> dict[str, list[Settled]]:
    lanes: dict[str, list[Settled]] = {}
    for batch in settled:
        lanes.setdefault(batch.lane, []).append(batch)
    return lanes


def _parts(batches: Iterable[Settled]) -> Iterator[list[int]]:
    part: list[int] = []
    members = 0
    for batch in batches:
        if part and members + batch.size > CHUNK:
            yield part
            part, members = [], 0
        part.append(batch.batch_id)
        members += batch.size
    if part:
        yield part


def send(actor_name: str, *args: Any, priority: str = "normal", delay_ms: int | None = None) -> None:
    """Send a message; on the urgent queue when ``priority`` says so. A broker that is away is logged."""
    broker = current.broker()
    message = broker.get_actor(actor_name).message(*args)
    deliver(message, priority=priority, delay_ms=delay_ms)


def deliver(message: dramatiq.Message[Any], *, priority: str = "normal", delay_ms: int | None = None) -> None:
    """Hand ``message`` to the broker; its row is safe, so a broker that is away is no error."""
    from redis import RedisError

    if priority == "urgent":
        message = message.copy(queue_name="urgent")
    try:
        current.broker().enqueue(message, delay=delay_ms)
    except (RedisError, OSError) as exc:
        logger.warning("%s: not sent now, will be later: %s", message.actor_name, type(exc).__name__)

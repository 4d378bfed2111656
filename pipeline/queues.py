"""What Redis really holds of a queue: Dramatiq's keys, and who is alive."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

#: The queue that overtakes all others: Dramatiq's own priority acts only after the prefetch.
URGENT = "urgent"

#: Milliseconds without a sign of life after which another process takes a worker's messages.
HEARTBEAT_TIMEOUT_MS = 5000

#: What Dramatiq's keys begin with.
NAMESPACE = "dramatiq"

#: The sorted set of worker processes by their last sign of life.
HEARTBEATS_KEY = f"{NAMESPACE}:__heartbeats__"


def acks_key(worker_id: str, queue: str) -> str:
    """The set of ids that a worker process has fetched and not finished."""
    return f"{NAMESPACE}:__acks__.{worker_id}.{queue}"


def messages_key(queue: str) -> str:
    """The hash from ids to messages. What it holds need not be in any list."""
    return f"{NAMESPACE}:{queue}.msgs"


@dataclass(frozen=True, slots=True)
class Unacked:
    """Messages that workers have fetched and not finished, but for delayed ones that they hold.

    ``oldest_seconds``: how long ago the oldest was sent; ``of_dead``: of workers without a heartbeat.
    """

    count: int
    oldest_seconds: float
    of_dead: int
    living_workers: int


def unacked(client: redis.Redis) -> Unacked:
    """What is under way in all queues."""
    living = _living(client)
    sent_at: list[float] = []
    of_dead = 0
    for key in client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1000):
        worker_id, queue = key.decode().removeprefix(f"{NAMESPACE}:__acks__.").split(".", 1)
        if queue.endswith(".DQ"):
            continue
        ids: Any = list(client.smembers(key))
        bodies: Any = client.hmget(messages_key(queue), ids) if ids else []
        sent_at += [_sent_at(body) for body in bodies if body is not None]
        of_dead += len(ids) * (worker_id.encode() not in living)
    return Unacked(
        len(sent_at), max(0.0, time.time() - min(sent_at, default=time.time())), of_dead, len(living)
    )


def _sent_at(body: bytes) -> float:
    """When a message was sent; now for one that does not tell."""
    try:
        return float(json.loads(body)["message_timestamp"]) / 1000
    except (ValueError, KeyError, TypeError):
        return time.time()


def _living(client: redis.Redis) -> set[bytes]:
    alive_since = time.time() * 1000 - HEARTBEAT_TIMEOUT_MS
    found: Any = client.zrangebyscore(HEARTBEATS_KEY, alive_since, "+inf")
    return set(found)


@dataclass(frozen=True, slots=True)
class Load:
    """How many messages wait in lists, and how many living workers have fetched and not finished."""

    waiting: int
    fetched: int


def load(client: redis.Redis, *queues: str) -> Load:
    """The load of these queues together; what nobody will ever deliver does not count."""
    found = loads(client, *queues).values()
    return Load(sum(one.waiting for one in found), sum(one.fetched for one in found))


def loads(client: redis.Redis, *queues: str) -> dict[str, Load]:
    """The same for each of them, all of one moment."""
    living = _living(client)
    with client.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(f"{NAMESPACE}:{queue}")
            for worker in living:
                pipe.scard(acks_key(worker.decode(), queue))
        counts = iter(pipe.execute())
    return {queue: Load(next(counts), sum(next(counts) for _ in living)) for queue in queues}

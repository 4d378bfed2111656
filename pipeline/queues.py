"""What Redis really holds of a queue: Dramatiq's keys, and who is alive."""

from __future__ import annotations

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


def acks_key(worker_id: str, queue: str) -> str:
    """The set of ids that a worker process has fetched and not finished."""
    return f"{NAMESPACE}:__acks__.{worker_id}.{queue}"


def messages_key(queue: str) -> str:
    """The hash from ids to messages. What it holds need not be in any list."""
    return f"{NAMESPACE}:{queue}.msgs"


@dataclass(frozen=True, slots=True)
class Load:
    """How many messages wait in lists, and how many living workers have fetched and not finished."""

    waiting: int
    fetched: int


def load(client: redis.Redis, *queues: str) -> Load:
    """The load of these queues together; what nobody will ever deliver does not count."""
    alive_since = time.time() * 1000 - HEARTBEAT_TIMEOUT_MS
    living: Any = client.zrangebyscore(f"{NAMESPACE}:__heartbeats__", alive_since, "+inf")
    with client.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(f"{NAMESPACE}:{queue}")
        for worker in living:
            for queue in queues:
                pipe.scard(acks_key(worker.decode(), queue))
        counts = pipe.execute()
    return Load(sum(counts[: len(queues)]), sum(counts[len(queues) :]))

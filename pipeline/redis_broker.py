"""Dramatiq's Redis broker, but that a delayed message waits in Redis for its time, and in no worker.

Dramatiq has a list for them, first in, first out. A worker process fetches the thousands at its head, so
that what is due in seconds waits behind what is due in hours, and with its connection it loses them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, q_name

from pipeline.queues import NAMESPACE, acks_key, messages_key

#: KEYS: the delayed messages' ids by the time they are due at, and the list from which they are fetched.
#: ARGV: now, in milliseconds, and how many at most.
MAKE_DUE = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('RPUSH', KEYS[2], id)
end
return #ids
"""

#: KEYS: the ids that this process has fetched and not finished, and the messages by id. ARGV: ids.
#: As Dramatiq's own does for one: what was given to somebody else meanwhile is left to it.
ACK_ALL = """
for _, id in ipairs(ARGV) do
    if redis.call('SREM', KEYS[1], id) > 0 then
        redis.call('HDEL', KEYS[2], id)
    end
end
"""


def delays_key(queue: str) -> str:
    """The sorted set of the ids that are not due yet; ``queue`` is a delay queue."""
    return f"{NAMESPACE}:{queue}.etas"


class DelayingRedisBroker(RedisBroker):
    """One for each process."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        #: By queue: the Redis ids that a consumer has handed out and that are not acknowledged.
        self.in_hand: defaultdict[str, set[str]] = defaultdict(set)
        self._make_due: Any = self.client.register_script(MAKE_DUE)
        self._ack_all: Any = self.client.register_script(ACK_ALL)

    def do_enqueue(self, queue_name: str, redis_id: str, body: bytes) -> None:
        """Put a message into its list, or among those that wait for their time."""
        if queue_name == q_name(queue_name):
            self._dispatch("enqueue")(queue_name, redis_id, body)  # type: ignore[no-untyped-call]
            return
        eta_ms = dramatiq.Message.decode(body).options["eta"]
        with self.client.pipeline() as pipe:
            pipe.hset(messages_key(queue_name), redis_id, body)
            pipe.zadd(delays_key(queue_name), {redis_id: eta_ms})
            pipe.execute()

    def do_purge(self, queue_name: str) -> None:
        """Drop all messages of a queue."""
        self._dispatch("purge")(queue_name)  # type: ignore[no-untyped-call]
        self.client.delete(delays_key(queue_name))

    def ack_all(self, queue_name: str, redis_ids: Sequence[str]) -> None:
        """Forget messages that are done, in one round trip."""
        keys = [acks_key(self.broker_id, queue_name), messages_key(queue_name)]
        self._ack_all(keys=keys, args=redis_ids)

    def make_due(self, queue_name: str, limit: int) -> None:
        """Move those of a delay queue whose time has come to where they are fetched from."""
        keys = [delays_key(queue_name), f"{NAMESPACE}:{queue_name}"]
        self._make_due(keys=keys, args=[current_millis(), limit])

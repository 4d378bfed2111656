"""Dramatiq's Redis broker, but that a delayed message waits in Redis for its time, and in no worker.

Dramatiq has a list for them, first in, first out. A worker process fetches the thousands at its head, so
that what is due in seconds waits behind what is due in hours, and with its connection it loses them all.

And whoever sends a message rings (`pipeline.bell`), so that nobody has to ask for it all the time.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, q_name
from dramatiq.middleware import MiddlewareError

from pipeline.bell import Bell, channel_of
from pipeline.queues import HEARTBEATS_KEY, NAMESPACE, acks_key, messages_key
from pipeline.redis_scripts import Scripts

#: How often, in seconds, a process looks at its queues without having heard the bell, and says that it
#: is alive.
LOOK_SECONDS = 1.0

#: Store a message, and ring if nobody has been rung for what is in the list: who was fetches until it
#: is empty. The bell is no reason to fail.
#: KEYS: the hash of the messages, and the list. ARGV: id, message, channel, and the bell's word for the
#: queue. Returns whether it rang.
ENQUEUE = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('RPUSH', KEYS[2], ARGV[1]) > 1 then
    return 0
end
redis.pcall('PUBLISH', ARGV[3], ARGV[4])
return 1
"""

#: The same for a delayed one, which rings if it is the next to be due.
#: KEYS: the hash of the messages, their ids by the time they are due at. ARGV: as above, and that time.
DELAY = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
if redis.call('ZRANGE', KEYS[2], 0, 0)[1] ~= ARGV[1] then
    return 0
end
redis.pcall('PUBLISH', ARGV[3], ARGV[4])
return 1
"""

#: KEYS: the delayed messages' ids by the time they are due at, the list from which they are fetched, the
#: workers by their last sign of life. ARGV: now and the oldest such sign of a living worker, in
#: milliseconds, and how many at most. Returns whether there is something to be fetched, or a dead worker
#: to inherit from, and when the next one is due.
MAKE_DUE = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('RPUSH', KEYS[2], id)
end
local fetch = redis.call('EXISTS', KEYS[2]) + redis.call('ZCOUNT', KEYS[3], '-inf', ARGV[2])
return {fetch, redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or false}
"""

#: Say that this process is alive, and look at all its queues at once. KEYS: the workers by their last
#: sign of life; the queues' lists; in the same order, the times at which delayed messages are due.
#: ARGV: now and the oldest sign of a living worker, in milliseconds, this worker, and the queues.
#: Returns those to fetch from: all, if there is a dead worker to inherit from.
LOOK = """
local queues = #ARGV - 3
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3])
local all = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2]) > 0
local found = {}
if not all and redis.call('EXISTS', unpack(KEYS, 2)) == 0 then
    return found
end
for i = 1, queues do
    if all or redis.call('EXISTS', KEYS[i + 1]) == 1
        or redis.call('ZCOUNT', KEYS[queues + i + 1], '-inf', ARGV[1]) > 0 then
        found[#found + 1] = ARGV[i + 3]
    end
end
return found
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


def list_key(queue: str) -> str:
    """The list of the ids that are to be fetched."""
    return f"{NAMESPACE}:{queue}"


def _function(middleware: dramatiq.Middleware, name: str) -> Any:
    """What it does at a signal; Dramatiq's own does nothing."""
    method = getattr(middleware, name)
    return getattr(method, "__func__", method)


def _fetches(arguments: Sequence[Any]) -> bool:
    """Whether Dramatiq's script is to take messages: those in an answer that is lost go back at a restart."""
    return bool(arguments) and arguments[0] == "fetch"


@dataclass(frozen=True, slots=True)
class Due:
    """Whether there is something to fetch from a delay queue, and when the next one is due, if ever."""

    fetch: bool
    next_ms: float


class DelayingRedisBroker(RedisBroker):
    """One for each process."""

    def __init__(self, **options: Any) -> None:
        #: By the name of a signal, and how much middleware there was: that which does something then.
        self._listening: dict[tuple[str, int], list[dramatiq.Middleware]] = {}
        super().__init__(**options)  # type: ignore[no-untyped-call]
        #: By queue: the Redis ids that a consumer has handed out and that are not acknowledged.
        self.in_hand: defaultdict[str, set[str]] = defaultdict(set)
        self.bell = Bell(self.client, self.broker_id)
        self._channel = channel_of(self.client)
        self._scripts = Scripts(self.client)
        self._enqueue, self._delay, self._make_due, self._look, self._ack_all = map(
            self._scripts.register, (ENQUEUE, DELAY, MAKE_DUE, LOOK, ACK_ALL)
        )
        self.scripts = {
            name: self._scripts.register(own.script, once=_fetches) for name, own in self.scripts.items()
        }
        self._looking = threading.Lock()
        self._look_at = 0.0

    def close(self) -> None:
        """Close the connections."""
        self.bell.stop()
        self._scripts.close()
        self.client.close()

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """As Dramatiq's, but that only who listens is called: two of fifteen, where a message is sent."""
        name = f"before_{signal}"
        for middleware in self._listeners(name):
            try:
                getattr(middleware, name)(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical("Unexpected failure in %s of %r.", name, middleware, exc_info=True)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """The same, in the other order."""
        name = f"after_{signal}"
        for middleware in reversed(self._listeners(name)):
            try:
                getattr(middleware, name)(self, *args, **kwargs)
            except Exception:
                self.logger.critical("Unexpected failure in %s of %r.", name, middleware, exc_info=True)

    def _listeners(self, name: str) -> list[dramatiq.Middleware]:
        known = (name, len(self.middleware))
        found = self._listening.get(known)
        if found is None:
            silent = getattr(dramatiq.Middleware, name, None)
            found = [one for one in self.middleware if _function(one, name) is not silent]
            self._listening[known] = found
        return found

    def do_enqueue(self, queue_name: str, redis_id: str, body: bytes) -> None:
        """Put a message into its list, or among those that wait for their time."""
        what = [redis_id, body, self._channel, self.bell.word(queue_name)]
        if queue_name == q_name(queue_name):
            rang = self._enqueue(keys=[messages_key(queue_name), list_key(queue_name)], args=what)
        else:
            eta_ms = dramatiq.Message.decode(body).options["eta"]
            rang = self._delay(keys=[messages_key(queue_name), delays_key(queue_name)], args=[*what, eta_ms])
        if rang:  # what is nearest need not come back from Redis
            self.bell.ring([queue_name])

    def do_purge(self, queue_name: str) -> None:
        """Drop all messages of a queue."""
        self._dispatch("purge")(queue_name)  # type: ignore[no-untyped-call]
        self.client.delete(delays_key(queue_name))

    def ack_all(self, queue_name: str, redis_ids: Sequence[str]) -> None:
        """Forget messages that are done, in one round trip."""
        keys = [acks_key(self.broker_id, queue_name), messages_key(queue_name)]
        self._ack_all(keys=keys, args=redis_ids)

    def make_due(self, queue_name: str, limit: int) -> Due:
        """Move those of a delay queue whose time has come to where they are fetched from."""
        keys = [delays_key(queue_name), list_key(queue_name), HEARTBEATS_KEY]
        fetch, next_ms = self._make_due(keys=keys, args=[*self._now_and_then(), limit])
        return Due(bool(fetch), math.inf if next_ms is None else float(next_ms))

    def seconds_to_look(self) -> float:
        """Until somebody has to `look`."""
        return max(0.0, self._look_at - time.monotonic())

    def look(self) -> None:
        """Ring for the queues that have something, unless another thread has just done so."""
        if self.seconds_to_look() or not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = time.monotonic() + LOOK_SECONDS
            queues = self.bell.queues
            keys = [HEARTBEATS_KEY, *map(list_key, queues), *map(delays_key, queues)]
            found = self._look(keys=keys, args=[*self._now_and_then(), self.broker_id, *queues])
        finally:
            self._looking.release()
        self.bell.ring(queue.decode() for queue in found)

    def _now_and_then(self) -> tuple[int, int]:
        """Now, and when a worker that is alive has said so at the latest: milliseconds."""
        now_ms = current_millis()
        return now_ms, now_ms - self.heartbeat_timeout

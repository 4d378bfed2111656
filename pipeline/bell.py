"""Whoever sends a message rings, and the consumers that wait for one look at once, not only now and then.

A ring says that there is something in a queue, and no more. One that is lost costs the time until the
next look, which comes anyway: Redis was away, say, or its user may not use the channel.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import redis
from redis import RedisError

logger = logging.getLogger(__name__)

#: The channel's name before the number of the database: channels know of no databases.
CHANNEL = "pipeline:bell"

#: Seconds until one that was not heard any more is listened to anew.
AWAY_SECONDS = 1.0

#: Seconds for which the connection is read from at a time.
READ_SECONDS = 5.0

#: The server has to have answered the last but one question whether it is still there.
UNANSWERED = 1


class Rings:
    """The rings of one queue. They are counted: one between a look and the wait that follows is heard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How many there were; to be asked before the look."""
        return self._count

    def ring(self) -> None:
        """Wake who waits."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Wait for one more than ``heard``, or so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._count != heard, seconds)


def channel_of(client: redis.Redis) -> str:
    """The channel on which the processes that share a Redis database ring."""
    return f"{CHANNEL}:{client.connection_pool.connection_kwargs.get('db', 0)}"


class Bell:
    """A worker process's: one connection that listens, for all its queues.

    What the process rings itself (``name`` is its own) its consumers have heard without Redis.
    """

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client = client
        self._name = name
        self._rings: dict[str, Rings] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_heard = True
        self._thread: threading.Thread | None = None

    @property
    def queues(self) -> list[str]:
        """Those that are listened for."""
        return list(self._rings)

    def of(self, queue: str) -> Rings:
        """The rings of ``queue``, for which it listens from now on."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fork has no threads
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
            return self._rings.setdefault(queue, Rings())

    def word(self, queue: str) -> str:
        """What this process publishes when it rings for ``queue``."""
        return f"{self._name} {queue}"

    def ring(self, queues: Iterable[str]) -> None:
        """Ring for these, in this process."""
        for queue in queues:
            if rings := self._rings.get(queue):
                rings.ring()

    def stop(self) -> None:
        """Listen no more."""
        self._stopping.set()
        if self._thread is None or not self._thread.is_alive():
            return
        with suppress(RedisError):
            self._client.publish(channel_of(self._client), "")  # it is reading
        self._thread.join(READ_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except RedisError as exc:
                self._miss(exc)
                self._stopping.wait(AWAY_SECONDS)

    def _miss(self, exc: RedisError) -> None:
        """Said once: it may be for ever."""
        if self._is_heard:
            logger.warning("the bell is not heard, queues are looked at: %s", type(exc).__name__)
        self._is_heard = False

    def _listen(self) -> None:
        with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py's has no types
            pubsub.subscribe(channel_of(self._client))
            while not self._stopping.is_set() and pubsub.health_check_response_counter <= UNANSWERED:
                self._hear(pubsub.get_message(timeout=READ_SECONDS))

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":  # what rang before was not heard
            self._is_heard = True
            self.ring(self.queues)
        elif message["type"] == "message":
            name, _, queue = message["data"].decode(errors="replace").partition(" ")
            if name != self._name:
                self.ring([queue])

"""The consumer of a Redis queue: what it can't deliver it takes out, and delivers the rest.

Dramatiq's own starts anew at the first message that it can't decode, forgets what it had fetched
together with it, and those are then delivered to nobody while the process lives. So are those that
it fetches while its connection breaks, and those of a delay queue when it does.

And it asks again and again whether there is a message. This one fetches when the bell has rung, when a
delayed one is due, or when the look that the process has at all its queues every second found something.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.common import q_name
from dramatiq.errors import ConnectionClosed, DecodeError
from redis import RedisError

from pipeline.database import close_connection
from pipeline.malformed import LOOK_AGAIN_SECONDS, refuse
from pipeline.merging import MOST, MergedMessage, can_be_merged, may_be_merged, redis_ids
from pipeline.queues import URGENT, acks_key, messages_key
from pipeline.redis_broker import DelayingRedisBroker, Due

logger = logging.getLogger(__name__)

#: In characters; a longer one is nobody's.
MAX_MESSAGE_ID_LENGTH = 255

#: Seconds after which it fetches without a reason: Dramatiq then drops failed messages that are too old.
FETCH_SECONDS = 60.0

#: Messages are fetched together when there is room for a quarter of the prefetch, or after so many
#: seconds with room for less: meanwhile a thread may have nothing to do.
ENOUGH_ROOM, ROOM_SECONDS = 0.25, 0.01

#: Seconds from one fetch that found something to the next in a list that was empty: the first of these, and
#: twice as many each time that a message came sooner, up to the second. One that comes alone is fetched at
#: once; where many follow each other, batches get larger. What is urgent does not wait.
GATHER_SECONDS = 0.01, 0.08


class Consumer(_RedisConsumer):
    """One for each queue of a worker process; only its own thread iterates."""

    # Dramatiq's consumer has no types: each call of it is ignored where it stands.

    def __init__(self, broker: DelayingRedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._delays = queue_name != q_name(queue_name)
        self._in_hand = broker.in_hand[queue_name]
        if self._delays:
            self._in_hand.clear()  # Dramatiq drops the delayed ones that the consumer before has handed out
        self._has_resumed = False
        #: Whether what was fetched last was worked on together.
        self._merges = False
        self._rings = broker.bell.of(queue_name)
        #: The rings before the last fetch, if it has left nothing; None when there may be more.
        self._heard: int | None = None
        #: For how much room it waits: whoever makes that rings.
        self._room_wanted = 0
        self._fetch_at: float = 0.0
        self._found_at = -math.inf
        self._gather_seconds = GATHER_SECONDS[0]
        self._due_ms: float = math.inf
        #: Redis ids of what is to be taken out, and why, until SQL has it.
        self._refused: dict[bytes, str] = {}
        self._record_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """The next message; None when there is none now, or none that can be delivered."""
        with as_connection_errors():
            self._record_refused()
            heard = self._rings.count
            if not self.message_cache and self._has_reason(heard):
                self.message_cache = self._fetch(heard)
            if self.message_cache:
                return self._next_deliverable()
            self._rings.wait(heard, self._patience_seconds())
            self.broker.look()
        return None

    def ack(self, message: MessageProxy) -> None:
        """Forget a message that is done."""
        ids = redis_ids(message)
        with as_connection_errors():
            if len(ids) == 1:
                super().ack(message)  # type: ignore[no-untyped-call]
            else:
                self.broker.ack_all(self.queue_name, ids)
        self._let_go(message, ids)

    def nack(self, message: MessageProxy) -> None:
        """Take a failed message out of the queue; Redis keeps it for a week."""
        ids = redis_ids(message)
        with as_connection_errors():
            for id_ in ids:
                self.broker.do_nack(self.queue_name, id_)
        self._let_go(message, ids)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back what was not worked on."""
        ids = [id_ for message in messages for id_ in redis_ids(message)]
        if ids:
            with as_connection_errors():
                self.broker.do_requeue(self.queue_name, *ids)

    def close(self) -> None:
        """Give back what was fetched and not handed out: the next consumer does not know of it."""
        bodies, self.message_cache = set(self.message_cache), []
        refused, self._refused = self._refused, {}
        if not bodies and not refused:
            return
        with as_connection_errors():
            ids = [id_ for id_, body in self._held() if body in bodies or id_ in refused]
            if ids:
                self.broker.do_requeue(self.queue_name, *ids)

    def _let_go(self, message: MessageProxy, ids: Iterable[str]) -> None:
        self.queued_message_ids.discard(message.message_id)
        self._in_hand.difference_update(ids)
        if 0 < self._room_wanted <= self._room:
            self._rings.ring()

    @property
    def _room(self) -> int:
        return int(self.prefetch - self.outstanding_message_count)

    def _await_room(self) -> int:
        """For how many messages there is room; if for few, a moment later, when it may be for more."""
        heard, enough = self._rings.count, self.prefetch * ENOUGH_ROOM
        self._room_wanted = math.ceil(enough)  # before it is counted: whoever makes room after that rings
        if 0 < self._room < enough:
            self._rings.wait(heard, ROOM_SECONDS)
        self._room_wanted = 1
        if room := self._room:
            self._room_wanted = 0
        return room

    def _gather(self) -> None:
        """Let more come, if the last one has come a moment ago."""
        seconds, (shortest, longest) = self._gather_seconds, GATHER_SECONDS
        wait_seconds = self._found_at + seconds - time.monotonic()
        self._gather_seconds = min(2 * seconds, longest) if wait_seconds > 0 else shortest
        time.sleep(max(0.0, wait_seconds))  # what comes in that time is what it waits for

    def _has_reason(self, heard: int) -> bool:
        """Whether there may be something to fetch."""
        return heard != self._heard or self._seconds_to_due() <= 0 or time.monotonic() >= self._fetch_at

    def _seconds_to_due(self) -> float:
        return self._due_ms / 1000 - time.time()

    def _patience_seconds(self) -> float:
        """For how long to wait for a ring."""
        seconds: float = min(self.timeout / 1000, self.broker.seconds_to_look())
        return seconds if self._room_wanted else max(0.0, min(seconds, self._seconds_to_due()))

    def _fetch(self, heard: int) -> list[bytes]:
        if not self._has_resumed:
            self._give_back_what_nobody_has()
            self._has_resumed = True
        if self._heard is not None and self.queue_name != URGENT:
            self._gather()
        wanted = self._await_room()
        if wanted <= 0:
            return []
        room = wanted
        if self._merges:
            wanted = MOST  # they are one message to the worker
        bodies = self.broker.do_fetch(self.queue_name, wanted) if self._may_hold(wanted) else []
        self._heard = heard if len(bodies) < wanted else None
        self._fetch_at = time.monotonic() + FETCH_SECONDS
        if bodies:
            self._found_at = time.monotonic()
        if None in bodies:
            self._forget_ids_without_body()
        return self._within([body for body in bodies if body is not None], room)

    def _within(self, bodies: list[bytes], room: int) -> list[bytes]:
        """What there is room for, or all that are one message; the rest goes back to the end of its list."""
        alike = next((n for n, body in enumerate(bodies) if not may_be_merged(body)), len(bodies))
        surplus = bodies[max(alike, room) :]
        if surplus:
            given_back = set(surplus)
            ids = [id_ for id_, body in self._held() if body in given_back]
            self.broker.do_requeue(self.queue_name, *ids)
            self._heard = None  # there is more, and nobody rings for it
        return bodies[: max(alike, room)]

    def _may_hold(self, wanted: int) -> bool:
        """Whether to fetch: of a delay queue it is known. What is due there is moved to its list."""
        if not self._delays:
            return True
        due: Due = self.broker.make_due(self.queue_name, wanted)
        self._due_ms = due.next_ms
        return due.fetch

    def _give_back_what_nobody_has(self) -> None:
        """What the consumer before this one has fetched and not handed out: Redis's answer was lost."""
        held: list[bytes] = list(
            self.broker.client.smembers(acks_key(self.broker.broker_id, self.queue_name))
        )
        ids = [id_ for id_ in held if id_.decode(errors="replace") not in self._in_hand]
        if ids:
            self.broker.do_requeue(self.queue_name, *ids)

    def _forget_ids_without_body(self) -> None:
        """Redis has lost these messages; their rows are sent again, unless somebody seems to have them."""
        ids = [id_ for id_, body in self._held() if body is None]
        if ids:
            self.broker.client.srem(acks_key(self.broker.broker_id, self.queue_name), *ids)
            logger.warning("%d messages of %s have no content in Redis", len(ids), self.queue_name)

    def _next_deliverable(self) -> MessageProxy | None:
        """The first message of the cache, together with those after it that go with it."""
        first = self._decoded(self.message_cache.pop(0))
        if first is None:
            return None
        members = [first]
        self._merges = not self._delays and can_be_merged(first)
        while self._merges and self.message_cache and len(members) < MOST:
            message, fault = self._read(self.message_cache[0])
            if message is None or fault is not None or not can_be_merged(message):
                break
            del self.message_cache[0]
            members.append(message)
        return self._handed_out(members)

    def _handed_out(self, members: list[dramatiq.Message[Any]]) -> MessageProxy:
        message = MessageProxy(members[0]) if len(members) == 1 else MergedMessage(members)
        self.queued_message_ids.add(message.message_id)
        self._in_hand.update(redis_ids(message))
        return message

    def _read(self, body: bytes) -> tuple[dramatiq.Message[Any] | None, str | None]:
        """A message and what is wrong with it; None for one that is none."""
        try:
            message = dramatiq.Message.decode(body)
        except DecodeError:
            return None, "it can not be decoded"
        return message, misfit(message, self.queue_name, self.broker.actors)

    def _decoded(self, body: bytes) -> dramatiq.Message[Any] | None:
        """The message; None, and on its way out of the queue, for one that can not be delivered."""
        message, fault = self._read(body)
        if fault is None:
            return message
        self._refused[self._id_of(body)] = f"a message in the queue {q_name(self.queue_name)}: {fault}"
        self._record_refused()
        return None

    def _id_of(self, body: bytes) -> bytes:
        """The Redis id of a message that does not tell it itself."""
        found = (id_ for id_, held in self._held() if held == body and id_ not in self._refused)
        return next(found, str(uuid4()).encode())

    def _held(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Id and content of each message that this process has fetched and not yet finished."""
        client = self.broker.client
        ids: list[bytes] = list(client.smembers(acks_key(self.broker.broker_id, self.queue_name)))
        if ids:
            yield from zip(ids, client.hmget(messages_key(self.queue_name), ids), strict=True)

    def _record_refused(self) -> None:
        """Take out of the queue what the ledger has; the others stay, for us or for who comes after us."""
        if not self._refused or time.monotonic() < self._record_at:
            return
        try:
            for id_, why in list(self._refused.items()):
                if not refuse(_text_of(id_), why, stage=q_name(self.queue_name)):
                    self._record_at = time.monotonic() + LOOK_AGAIN_SECONDS
                    return
                self.broker.do_nack(self.queue_name, id_)
                del self._refused[id_]
        finally:
            close_connection()  # this thread seldom needs one


def misfit(message: dramatiq.Message[Any], queue_name: str, actors: Collection[str]) -> str | None:
    """What keeps a decoded message from being delivered; None for a good one.

    Dramatiq takes for granted what is asked here: its threads die of it, or never acknowledge.
    """
    id_, options = message.message_id, message.options
    whole = (
        isinstance(message.actor_name, str)
        and isinstance(message.kwargs, dict)
        and isinstance(options, dict)
        and isinstance(options.get("redis_message_id"), str)
        and "throws" not in options  # a class, which JSON has not
        and isinstance(id_, str)
        and 0 < len(id_) <= MAX_MESSAGE_ID_LENGTH
        and id_.isprintable()
    )
    if not whole:
        return "it is not what Dramatiq sends"
    if message.queue_name != queue_name:
        return "it names another queue"
    return None if message.actor_name in actors else "there is no actor of the name in it"


def _text_of(redis_id: bytes) -> str:
    """A Redis id, which may be any bytes, as text that both databases take."""
    return redis_id.decode("utf-8", "backslashreplace").replace("\0", "\\x00")[:MAX_MESSAGE_ID_LENGTH]


@contextmanager
def as_connection_errors() -> Iterator[None]:
    """Let Dramatiq try again whatever Redis says: a time-out would leave messages with nobody."""
    try:
        yield
    except RedisError as exc:
        raise ConnectionClosed(exc) from None

"""What becomes of jobs, as it happens: a capped Redis stream, and lines in the log.

``completed``, ``failed``, and ``pending`` for one that is on its way once more (a reorg took its
block away, or it was replayed). Each is published at least once, also when Redis is away at that
moment; a repeat has the same ``key``. SQL stays the truth: the stream keeps the newest only.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline import transitions

if TYPE_CHECKING:
    import redis

    from pipeline.models import Outbox

logger = logging.getLogger(__name__)

COMPLETED, FAILED, PENDING = "completed", "failed", "pending"

STREAM = "pipeline:events"

#: About so many events are kept.
KEPT = 10_000

#: KEYS: the stream. ARGV: how many events to keep, and the events: one call for all of them, for to write
#: and read a command each costs more than what it does.
ADD = """
for i = 2, #ARGV do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[i])
end
"""

#: Seconds for which a read waits for something new, and a subscriber for Redis when it is away.
BLOCK_SECONDS, AWAY_SECONDS = 1.0, 1.0

#: Where the detail of a stored event has what is for the log alone.
LOG_ONLY = "log"

#: How the log calls it that a job is on its way once more, by the reason; any other reason is a replay.
ONCE_MORE = {"reorg": "unconfirmed", "queued again": "queued"}

_ID = re.compile("[0-9]{1,19}(-[0-9]{1,19})?")


def subscribe(*, after: str | None = None, idle_seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """Events from now on, or from the one with the id ``after`` on (``"0"``: all that are kept).

    Each is ``{"id", "key", "event", "job_id", "credential_id", "at", …}``: ``at`` in UTC,
    ISO 8601; ``completed`` has ``transaction_hash``, ``block_number``, ``merkle_root`` and
    ``mock``, ``failed`` has ``error`` and ``stage``, ``pending`` has ``reason``. Goes on for ever,
    also over an outage of Redis; with ``idle_seconds`` it ends when nothing came for so long.
    Raises `redis.RedisError` when Redis is away at the call, and `ValueError` for an ``after`` that is no
    id.
    """
    from pipeline.redis_client import ANSWER_TIMEOUT_SECONDS, connect

    if after is not None and not _ID.fullmatch(after):
        raise ValueError(f"after: {after[:40]!r} is not the id of an event")
    client = connect(answer_timeout_seconds=BLOCK_SECONDS + ANSWER_TIMEOUT_SECONDS)
    return _read(client, after if after is not None else _newest(client), idle_seconds)


def _newest(client: redis.Redis) -> str:
    found: Any = client.xrevrange(STREAM, count=1)
    return str(found[0][0].decode()) if found else "0"


def _read(client: redis.Redis, position: str, idle_seconds: float | None) -> Iterator[dict[str, Any]]:
    heard = time.monotonic()
    block_seconds = BLOCK_SECONDS if idle_seconds is None else min(BLOCK_SECONDS, idle_seconds)
    with client:
        while idle_seconds is None or time.monotonic() - heard < idle_seconds:
            found, position = _next(client, position, block_seconds)
            for id_, fields in found:
                position, heard = id_.decode(), time.monotonic()
                yield {"id": position, **json.loads(fields[b"event"])}


def _next(client: redis.Redis, position: str, block_seconds: float) -> tuple[list[Any], str]:
    """What is there after ``position``; from the beginning when Redis has lost its memory."""
    from redis import RedisError

    try:
        answer: Any = client.xread({STREAM: position}, count=500, block=max(1, int(block_seconds * 1000)))
        if not answer and _order(_newest(client)) < _order(position):
            return [], "0"
    except RedisError as exc:
        logger.warning("Redis is away, the subscription waits: %s", type(exc).__name__)
        time.sleep(AWAY_SECONDS)
        return [], position
    return (answer[0][1] if answer else []), position


def _order(id_: str) -> tuple[int, ...]:
    return tuple(map(int, id_.split("-")))


def publish() -> None:
    """Publish all that is stored, in its order; inside a transaction, once that is committed.

    What can not be published now, a sweep does later: Redis or the database is away, or another
    process is at it, and goes on until nothing is left.
    """
    from pipeline.database import database
    from pipeline.errors import DatabaseUnavailable

    if database.in_transaction():
        database.after_commit(publish)
        return
    try:
        _publish_all()
    except DatabaseUnavailable as exc:
        logger.warning("events are published later: %s", exc.message)


def _publish_all() -> None:
    from redis import RedisError

    from pipeline.ledger import outbox

    rows = outbox.claim()
    while rows:
        try:
            _add_to_stream(rows)
        except RedisError as exc:
            outbox.give_back(rows)
            logger.warning("events are published later: %s", type(exc).__name__)
            return
        for row in rows:
            _log(row)
        rows = outbox.claim(published=rows)


def _add_to_stream(rows: Sequence[Outbox]) -> None:
    from pipeline.settings import get_settings

    add = _publisher(get_settings().redis_dsn).add
    add(keys=[STREAM], args=[KEPT, *map(json.dumps, _events(rows))])


class _Publisher:
    """Connections that stay: to open one takes longer than to publish."""

    def __init__(self) -> None:
        from pipeline.redis_client import connect
        from pipeline.redis_scripts import Scripts

        self._client = connect()
        self._scripts = Scripts(self._client)
        self.add = self._scripts.register(ADD)

    def close(self) -> None:
        """Close them."""
        self._scripts.close()
        self._client.close()


#: The one there is, by the DSN that was set when it was made.
_publishers: dict[str, _Publisher] = {}
_making = threading.Lock()


def _publisher(dsn: str) -> _Publisher:
    with _making:
        if dsn not in _publishers:
            _close_all()
            _publishers[dsn] = _Publisher()
        return _publishers[dsn]


def close() -> None:
    """Close the connections; who publishes next opens new ones."""
    with _making:
        _close_all()


def _close_all() -> None:
    while _publishers:
        _publishers.popitem()[1].close()


def _events(rows: Sequence[Outbox]) -> Iterator[dict[str, Any]]:
    for row in rows:
        detail = json.loads(row.detail)
        detail.pop(LOG_ONLY, None)
        at = _iso(row.at)
        for number, (job_id, credential_id) in enumerate(json.loads(row.jobs)):
            yield {
                "key": f"{row.id}-{number}",
                "event": row.event,
                "job_id": job_id,
                "credential_id": credential_id,
                "at": at,
                **detail,
            }


def _log(row: Outbox) -> None:
    fields = json.loads(row.detail)
    fields |= fields.pop(LOG_ONLY, {})
    step = ONCE_MORE.get(fields.get("reason"), "replayed") if row.event == PENDING else row.event
    transitions.tell(
        step, [(job_id, credential_id) for job_id, credential_id in json.loads(row.jobs)], **fields
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The connection to Redis."""

from __future__ import annotations

import redis

from pipeline.settings import get_settings

#: Seconds to connect in, and to wait for an answer.
CONNECT_TIMEOUT_SECONDS = 3
ANSWER_TIMEOUT_SECONDS = 10


def connect(*, answer_timeout_seconds: float | None = ANSWER_TIMEOUT_SECONDS) -> redis.Redis:
    """A client with its own pool; it connects at the first command.

    ``answer_timeout_seconds`` None is for commands that block on purpose.
    """
    client: redis.Redis = redis.Redis.from_url(
        get_settings().redis_dsn,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=answer_timeout_seconds,
        health_check_interval=30,
    )
    return client

"""Redis's own files made anew, so that they hold no more than its memory: what was removed is gone.

The append-only file has every command since it was last rewritten; a snapshot has all that there was.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import redis

logger = logging.getLogger(__name__)

#: Seconds for which the end is waited for, and between two looks.
WAIT_SECONDS, LOOK_SECONDS = 60.0, 0.05

#: In Redis's ``INFO persistence``: what is under way.
UNDER_WAY = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")


def renew(client: redis.Redis) -> None:
    """Have those that are in use written anew, and wait for the end of it.

    A server may forbid that, as managed ones do, fail or take long: then the log has a warning.
    Raises `redis.RedisError` when Redis is away.
    """
    try:
        if _persistence(client)["aof_enabled"]:
            _make(client, "BGREWRITEAOF")
            if _persistence(client)["aof_last_bgrewrite_status"] != "ok":
                logger.warning(
                    "Redis could not rewrite its append-only file: what was removed is still in it"
                )
        saves: Any = client.config_get("save")
        if saves["save"]:
            _make(client, "BGSAVE")
    except redis.ResponseError as exc:
        logger.warning(
            "Redis does not let us renew its files, what was removed may still be in them: %s", exc
        )


def _make(client: redis.Redis, command: str) -> None:
    _wait(client)  # what is under way may have begun before the removal
    try:
        client.execute_command(command)  # type: ignore[no-untyped-call]
    except redis.ResponseError as exc:
        if "in progress" not in str(exc):
            raise
        # That one has begun after the removal.
    _wait(client)


def _wait(client: redis.Redis) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while any(_persistence(client)[name] for name in UNDER_WAY):
        if time.monotonic() > deadline:
            logger.warning("Redis still writes its files anew after %d s", WAIT_SECONDS)
            return
        time.sleep(LOOK_SECONDS)


def _persistence(client: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = client.info("persistence")
    return found

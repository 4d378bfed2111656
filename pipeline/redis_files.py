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


class NotRenewed(redis.RedisError):
    """What was removed may still be in a file of Redis; the text says in which, and why."""


def renew(client: redis.Redis) -> None:
    """Have those that are in use written anew, and wait for the end of it.

    A server may forbid that, as managed ones do: then the log has a warning. Raises `NotRenewed` when it
    fails or takes too long, and another `redis.RedisError` when Redis is away.
    """
    left = [fault for step in (_renew_log, _renew_snapshot) if (fault := step(client))]
    if left:
        raise NotRenewed("; ".join(left))


def _renew_log(client: redis.Redis) -> str | None:
    """Write the append-only file anew; why that failed, or None."""
    try:
        if not _persistence(client).get("aof_enabled"):
            return None
    except redis.ResponseError as exc:
        _note_forbidden(exc)
        return None
    return _make(client, "BGREWRITEAOF", "aof_last_bgrewrite_status", "append-only file")


def _renew_snapshot(client: redis.Redis) -> str | None:
    """Write the snapshot anew; why that failed, or None."""
    try:
        saves: Any = client.config_get("save")
    except redis.ResponseError as exc:
        _note_forbidden(exc)
        return None
    if not saves.get("save"):
        return None
    return _make(client, "BGSAVE", "rdb_last_bgsave_status", "snapshot")


def _make(client: redis.Redis, command: str, status: str, file: str) -> str | None:
    """Let Redis write the file, and wait for it; ``status`` is where ``INFO`` says how that went."""
    too_long = f"its {file} is not written anew after {WAIT_SECONDS:g} s"
    try:
        if not _wait(client):  # what is under way may have begun before the removal
            return too_long
        _begin(client, command)
        if not _wait(client):
            return too_long
    except redis.ResponseError as exc:
        # It also answers with an error where it could not begin: then it says of itself that it failed.
        if isinstance(exc, redis.exceptions.NoPermissionError) or _went_well(client, status):
            _note_forbidden(exc)
            return None
    return None if _went_well(client, status) else f"its {file} could not be written anew"


def _begin(client: redis.Redis, command: str) -> None:
    try:
        client.execute_command(command)  # type: ignore[no-untyped-call]
    except redis.ResponseError as exc:
        if "in progress" not in str(exc):
            raise
        # That one has begun after the removal.


def _wait(client: redis.Redis) -> bool:
    """Whether nothing is under way any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = _persistence(client)
        if not any(found.get(name) for name in UNDER_WAY):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)


def _went_well(client: redis.Redis, status: str) -> bool:
    """A server that does not say how it went, as some managed ones, is believed."""
    return bool(_persistence(client).get(status, "ok") == "ok")


def _note_forbidden(exc: redis.ResponseError) -> None:
    logger.warning("Redis does not let us renew its files, what was removed may still be in them: %s", exc)


def _persistence(client: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = client.info("persistence")
    return found

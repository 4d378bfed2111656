"""Rows whose message is gone are sent again: SQL is the truth, Redis only delivers.

A message counts as gone when Redis has lost its memory (another ``run_id``, or our marker is
not there), or when its stage's queue holds nothing and the row is older than ten seconds.
"""

from __future__ import annotations

import logging
import time
from uuid import uuid4

import redis

from pipeline import holding, messages
from pipeline.chain.client import chain_client
from pipeline.errors import ChainError, SettingsError
from pipeline.ledger import control, dead_letters, incidents, recovery
from pipeline.redis_client import connect
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

#: Key of the marker that a wipe takes away.
MARKER = "pipeline:epoch"
EPOCH = "redis_epoch"
EPOCH_SINCE = "redis_epoch_since"

#: Seconds after which a message that no queue holds counts as lost.
LOST_AFTER_SECONDS = 10.0

#: Seconds for which an outage's dead letters rest before they go out again.
REPLAYS_PER_SWEEP = 500


def reconcile() -> None:
    """One sweep. Raises `redis.RedisError` when Redis is away: then there is nobody to send to."""
    with connect() as client:
        since = _epoch_since(client)
        for priority in ("urgent", "normal"):
            _send_writes(client, priority, since)
        _send_batches(client, since)
    for cause_id in dead_letters.causes_not_alerted(created_before=time.time() - LOST_AFTER_SECONDS):
        messages.send("dead_letter", cause_id)
    _replay_after_outage()


def _epoch_since(client: redis.Redis) -> float:
    """Since when Redis has its memory, as far as we saw; a new one is recorded."""
    marker = client.get(MARKER)
    if marker is None:
        client.set(MARKER, uuid4().hex, nx=True)
        marker = client.get(MARKER)
    run_id = client.info("server")["run_id"]
    epoch = f"{run_id}:{marker!r}"
    known = control.read(EPOCH)
    if known != epoch:
        if known is not None:
            logger.warning("Redis was restarted or wiped: what is pending is sent again")
            control.write(EPOCH_SINCE, repr(time.time()))
        control.write(EPOCH, epoch)
    return float(control.read(EPOCH_SINCE) or 0)


def _send_writes(client: redis.Redis, priority: str, since: float) -> None:
    queue = "urgent" if priority == "urgent" else "hash_verify"
    ids = recovery.claim_writes(priority, sent_before=_lost_before(client, queue, since))
    if ids:
        logger.warning("%d writes are sent again", len(ids), extra={"stage": "hash_verify"})
        messages.verify(ids, priority)


def _send_batches(client: redis.Redis, since: float) -> None:
    waiting = recovery.claim_batches(recovery.WAITING, sent_before=_lost_before(client, "chain_write", since))
    for lane in {lane for _, lane in waiting}:
        messages.write(lane)
    settled = recovery.claim_batches(recovery.SETTLED, sent_before=_lost_before(client, "db_update", since))
    for batch_id, lane in settled:
        messages.update(batch_id, lane)


def _lost_before(client: redis.Redis, queue: str, since: float) -> float:
    """Messages that left earlier than this are gone."""
    with client.pipeline(transaction=False) as pipe:
        for name in (queue, "urgent"):
            pipe.hlen(f"dramatiq:{name}.msgs")
        held = sum(pipe.execute())
    return since if held else max(since, time.time() - LOST_AFTER_SECONDS)


def _replay_after_outage() -> None:
    """Replay what an outage has killed, once the node answers."""
    settings = get_settings()
    if not settings.dead_letter_auto_replay:
        return
    ids = dead_letters.replayable_after_outage(REPLAYS_PER_SWEEP)
    if not ids or not _chain_is_fine():
        return
    moved = dead_letters.requeue(ids, resolution=dead_letters.AUTO_REPLAYED)
    logger.warning("%d dead letters of an outage are replayed", len(moved))
    messages.verify(moved, "normal")


def _chain_is_fine() -> bool:
    if get_settings().blockchain_mock_enabled:
        return True
    try:
        if incidents.holding() is not None:
            return False
        holding.check(chain_client())
    except (ChainError, SettingsError):
        return False
    return True

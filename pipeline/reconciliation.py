"""Rows whose message is gone are sent again: SQL is the truth, Redis only delivers.

A message counts as gone when Redis has lost its memory (another ``run_id``, or our marker is
not there); after six seconds, when nobody has any message of its stage: no list, and no living
worker; and after two minutes whoever has one, unless a list is so long that it may be in there.
A message that is sent twice costs a look at its rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from uuid import uuid4

import redis

from pipeline import events, holding, messages, queues, replaying
from pipeline.chain.client import chain_client
from pipeline.errors import ChainError, SettingsError
from pipeline.ledger import control, counts, dead_letters, history, incidents, recovery
from pipeline.redis_client import connect
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

#: Key of the marker that a wipe takes away.
MARKER = "pipeline:epoch"
EPOCH = "redis_epoch"
EPOCH_SINCE = "redis_epoch_since"

#: Seconds after which a message counts as lost when there is none of its stage.
#: With the ticker's interval and lease, what a worker's death has lost goes on within ten.
LOST_AFTER_SECONDS = 6.0

#: Seconds after which it does so although there are some: Redis or a worker may hold what never ends.
OVERDUE_AFTER_SECONDS = 120.0

#: As many messages in a list are a backlog, in which anything may still be: only an empty Redis counts
#: then. It also bounds what is sent again to a stage that has no workers now.
BACKLOG = 5

#: The queues whose messages can be sent again.
QUEUES = ("hash_verify", "chain_write", "db_update", queues.URGENT)

Loads = Mapping[str, queues.Load]

#: An outage's dead letters that one sweep sends out again; they do so as soon as the node answers.
REPLAYS_PER_SWEEP = 500


def reconcile() -> None:
    """One sweep. Raises `redis.RedisError` when Redis is away: then there is nobody to send to."""
    counts.compact()
    history.record(time.time())
    with connect() as client:
        since = _epoch_since(client)
        loads = queues.loads(client, *QUEUES)
    for priority in ("urgent", "normal"):
        _send_writes(loads, priority, since)
    _send_batches(loads, since)
    for cause_id in dead_letters.causes_not_alerted(created_before=time.time() - LOST_AFTER_SECONDS):
        messages.send("dead_letter", cause_id)
    _replay_after_outage()
    events.publish()
    control.note_time(control.LAST_RECONCILE)


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


def _send_writes(loads: Loads, priority: str, since: float) -> None:
    queue = queues.URGENT if priority == "urgent" else "hash_verify"
    ids = recovery.claim_writes(priority, sent_before=_lost_before(loads, since, queue))
    if ids:
        logger.warning("%d writes are sent again", len(ids), extra={"stage": "hash_verify"})
        messages.verify(ids, priority)


def _send_batches(loads: Loads, since: float) -> None:
    lost_before = _lost_before(loads, since, "chain_write", queues.URGENT)
    waiting = recovery.claim_batches(recovery.WAITING, sent_before=lost_before)
    for lane in {lane for _, lane in waiting}:
        messages.write(lane)
    lost_before = _lost_before(loads, since, "db_update", queues.URGENT)
    settled = recovery.claim_batches(recovery.SETTLED, sent_before=lost_before)
    for batch_id, lane in settled:
        messages.update(batch_id, lane)


def _lost_before(loads: Loads, since: float, *names: str) -> float:
    """Messages in these queues that left earlier than this are gone."""
    waiting = sum(loads[name].waiting for name in names)
    if waiting >= BACKLOG:
        return since
    age = (
        OVERDUE_AFTER_SECONDS if waiting or any(loads[name].fetched for name in names) else LOST_AFTER_SECONDS
    )
    return max(since, time.time() - age)


def _replay_after_outage() -> None:
    """Replay what an outage has killed, once the node answers."""
    settings = get_settings()
    if not settings.dead_letter_auto_replay:
        return
    ids = dead_letters.replayable_after_outage(REPLAYS_PER_SWEEP)
    if not ids or not _chain_is_fine():
        return
    replayed = replaying.replay(ids, resolution=dead_letters.AUTO_REPLAYED)
    logger.warning("%d dead letters of an outage are replayed", replayed)


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

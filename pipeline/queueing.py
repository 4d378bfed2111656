"""Intake: checked requests become rows, and messages that leave after the commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dramatiq
from peewee import PeeweeException

from pipeline import current, events, messages, transitions
from pipeline.database import database
from pipeline.errors import ConflictingWrite, InvalidInput, UnknownCredential
from pipeline.intake import WriteRequest
from pipeline.ledger import fresh, queueing
from pipeline.ledger.queueing import QueuedWrite
from pipeline.merging import ALONE, SINGLE
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

STAGE = "hash_verify"


def queue_one(
    message: dramatiq.Message[Any], request: WriteRequest, *, delay_ms: int | None
) -> dramatiq.Message[Any]:
    """Store the write of one ``hash_verify`` message, whose id is the job's; send it after the commit.

    Returns the message under the id of the job, which is an earlier one for a duplicate.
    """
    _log_differing_cids([request])
    [queued] = queueing.queue(
        [request],
        job_ids=[message.message_id],
        own_message=True,
        due_at=time.time() + delay_ms / 1000 if delay_ms else None,
    )
    named = message if queued.job_id == message.message_id else message.copy(message_id=queued.job_id)
    if queued.duplicate:
        _after_commit([queued], lambda _: _renew_result(queued))
    if queued.needs_message:
        _after_commit([queued], lambda _: _deliver(named, queued, delay_ms))
    return named


def _deliver(message: dramatiq.Message[Any], queued: QueuedWrite, delay_ms: int | None) -> None:
    _tell([queued])
    messages.deliver(message, priority=queued.priority, delay_ms=delay_ms)


def _tell(stored: Iterable[QueuedWrite]) -> None:
    """Of those that are new; of one that is queued again its event tells."""
    jobs = [(write.job_id, write.credential_id) for write in stored if not write.duplicate]
    if jobs:
        transitions.tell("queued", jobs)


def _renew_result(queued: QueuedWrite) -> None:
    """Whoever waits with ``get_result`` gets this job's end, and not that of an earlier try."""
    from pipeline import completion

    if queued.needs_message:
        _forget_ends([queued])
    else:
        completion.renew_result(queued.job_id, queued.write_id)


def _forget_ends(again: list[QueuedWrite]) -> None:
    """They are pending once more: nobody is to be told of the end of an earlier try."""
    from pipeline import completion

    completion.forget_results([write.job_id for write in again])
    events.publish()


def queue_many(requests: Sequence[WriteRequest]) -> list[QueuedWrite]:
    """Store writes in one transaction, and send one message a chunk after the commit."""
    _log_differing_cids(requests)
    queued = queueing.queue(requests)
    again = [write for write in queued if write.duplicate and write.needs_message]
    if again:
        _after_commit(again, _forget_ends)
    _after_commit([write for write in queued if write.needs_message], _send)
    return queued


def queue_items(items: Iterable[object], *, priority: str = "normal") -> list[QueuedWrite]:
    """`queue_many` of what `requests_of` makes of ``items``; where all are new, both at the same time."""
    given = list(items)

    def parts() -> Iterator[list[WriteRequest]]:
        for start in range(0, len(given), fresh.PART):
            yield requests_of(given[start : start + fresh.PART], priority=priority, first=start)

    stored = queueing.queue_in_parts(parts) if len(given) > fresh.PART else None
    if stored is None:
        return queue_many(requests_of(given, priority=priority))
    requests, queued = stored
    _log_differing_cids(requests)
    _send(queued)
    return queued


def _log_differing_cids(requests: Iterable[WriteRequest]) -> None:
    for request in requests:
        if request.cid_digest_differs:
            logger.warning(
                "the CID's digest is not the data hash", extra={"credential_id": request.credential_id}
            )


def _after_commit(fresh: list[QueuedWrite], send: Callable[[list[QueuedWrite]], None]) -> None:
    """Send for ``fresh`` once they are stored for good.

    peewee runs a callback also when the savepoint in which it was registered was rolled back.
    """
    if not database.in_transaction():
        send(fresh)
        return

    def send_what_is_there() -> None:
        try:
            stored = queueing.still_there(fresh)
        except PeeweeException as exc:
            logger.warning("not sent now, will be later: %s", type(exc).__name__)
            return
        if stored:
            send(stored)

    database.after_commit(send_what_is_there)


def _send(fresh: Sequence[QueuedWrite]) -> None:
    _tell(fresh)
    for priority in ("urgent", "normal"):
        messages.verify([write.write_id for write in fresh if write.priority == priority], priority)


def requests_of(items: Iterable[object], *, priority: str = "normal", first: int = 0) -> list[WriteRequest]:
    """Check items; the error names the position of the first bad one. ``first``: that of the first item."""
    check = get_settings().cid_digest_check
    return [
        WriteRequest.from_item(item, position, priority=priority, cid_digest_check=check)
        for position, item in enumerate(items, first)
    ]


def adopt(job_id: str, parts: Mapping[str, object]) -> list[int]:
    """The write of a message that did not come through `.send()`, or whose row is elsewhere.

    What is wrong with it becomes a dead letter at once: there is no caller to hear it.
    """
    write_id = queueing.find(job_id)
    if write_id is not None:
        return [write_id]
    try:
        request = WriteRequest.of(**parts, cid_digest_check=get_settings().cid_digest_check)
    except InvalidInput as error:
        _announce(queueing.refuse_malformed(job_id, parts, error, stage=STAGE))
        return []
    try:
        queued = queueing.queue([request], job_ids=[job_id], own_message=True)
    except (UnknownCredential, ConflictingWrite) as error:
        _announce(queueing.refuse(job_id, request, error, stage=STAGE))
        return []
    _tell(queued)
    return [write.write_id for write in queued if write.needs_message]


def adopt_all(jobs: Sequence[Sequence[Any]]) -> list[int]:
    """The writes of several such messages: of each its id, then its arguments.

    Where there is no row the message goes out once more, to be looked at by itself: whatever is wrong
    with it is nothing to the others. Raises `redis.RedisError` when it can not.
    """
    known = queueing.find_all([job_id for job_id, *_ in jobs])
    hash_verify = current.broker().get_actor(SINGLE)
    for job_id, *args in jobs:
        if job_id not in known:
            message = hash_verify.message_with_options(args=tuple(args))
            current.broker().enqueue(message.copy(message_id=job_id, options={ALONE: True}))
    return list(known.values())


def _announce(cause_id: str | None) -> None:
    from pipeline import attempts
    from pipeline.ledger.attempts import FailedAttempt

    attempts.announce(FailedAttempt(None, cause_id))

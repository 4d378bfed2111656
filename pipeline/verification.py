"""The first stage: is the hash that of the document? What passes joins a batch."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from dramatiq.errors import Retry

from pipeline import attempts, messages
from pipeline.database import retrying
from pipeline.errors import (
    DatabaseUnavailable,
    HashMismatch,
    PipelineError,
    UnknownCredential,
    WorkerKilled,
)
from pipeline.hashing import hash_of_text
from pipeline.ledger import batches, dead_letters, joining, verification
from pipeline.ledger.attempts import FailedAttempt
from pipeline.ledger.sql import chunks
from pipeline.ledger.verification import Begun, Verifiable
from pipeline.metrics import catalogue, recorder
from pipeline.models import State
from pipeline.settings import get_settings
from pipeline.turns import Turns

logger = logging.getLogger(__name__)

STAGE = "hash_verify"

#: A write whose verification has begun as often and never ended is given up.
MAX_DELIVERIES = 3

#: Seconds after which a thread lets another message have its turn.
TURN_SECONDS = 0.5

#: Seconds for which one waits until nothing else is verified: those that do so may wait for a lock.
ALONE_SECONDS = 1.0

#: Writes whose documents are in memory at once.
CHUNK = 250

#: Between the threads of this process.
_turns = Turns()


def verify(write_ids: Sequence[int]) -> None:
    """Verify those of ``write_ids`` that still wait for it. A bad one fails alone, at once.

    What was begun before and never ended comes last, beside nothing else in this process: first all that
    it has happened to once, then one by one. So no neighbour dies three times of the same write.
    """
    with _turns.together():
        left, skipped = _verify(write_ids, again=False)
    if left:  # others have their turn: what is urgent must not wait for thousands
        messages.verify_again([*left, *skipped])
    elif skipped:
        _verify_again(skipped)


def _verify_again(write_ids: Sequence[int]) -> None:
    once, more = retrying(lambda: verification.begun_before(write_ids))
    groups = [group for group in (once, *([write_id] for write_id in more)) if group]
    deadline = time.monotonic() + TURN_SECONDS
    tried = False
    while groups and (not tried or time.monotonic() < deadline):
        tried = True
        with _turns.alone(seconds=ALONE_SECONDS) as alone:
            if not alone:
                break
            left, _ = _verify(groups.pop(0), again=True)
        if left:
            groups.insert(0, left)
    if groups:
        messages.verify_again([write_id for group in groups for write_id in group])


def _verify(write_ids: Sequence[int], *, again: bool) -> tuple[list[int], list[int]]:
    """Verify these, or as many as there is time for.

    Returns those for which there was none, and those that were passed over: they are somebody else's
    by now, or ``again`` is False and they were begun before.
    """
    passed: defaultdict[tuple[str, bool], list[int]] = defaultdict(list)
    begun: list[int] = []
    records: list[int] = []
    skipped: list[int] = []
    parts = list(chunks(write_ids, CHUNK))
    start = time.monotonic()
    deadline = start + TURN_SECONDS
    try:
        while parts and (not begun or time.monotonic() < deadline):
            part = parts.pop(0)
            found = _begin(part, again=again)
            records += [] if found.record is None else [found.record]
            skipped += set(part) - {write.id for write in found.writes}
            for write in found.writes:
                begun.append(write.id)
                _judge(write, passed)
        with attempts.at_writes(begun, stage=STAGE):
            _join(passed)
        verification.end(records)
    except DatabaseUnavailable:
        _end_deliveries(begun, records)
        raise
    except Retry:
        verification.end(records)
        raise
    finally:
        if begun:
            recorder.observe(catalogue.STAGE_DURATION, [time.monotonic() - start], stage=STAGE)
    return [write_id for part in parts for write_id in part], skipped


def _begin(write_ids: Sequence[int], *, again: bool) -> Begun:
    if again:
        return Begun(verification.begin(write_ids), None)
    return verification.begin_first(write_ids)


def _end_deliveries(write_ids: Sequence[int], records: Sequence[int]) -> None:
    """The database was away: no worker died."""
    try:
        verification.end(records)
        verification.end_deliveries(write_ids)
    except DatabaseUnavailable:
        logger.warning("%d deliveries count as unfinished: the database is away", len(write_ids))


def _judge(write: Verifiable, passed: dict[tuple[str, bool], list[int]]) -> None:
    try:
        passed[write.priority, check(write)].append(write.id)
    except PipelineError as error:
        verification.count_attempt([write.id])
        cause = dead_letters.bury([write.id], error, state=State.QUEUED, stage=STAGE)
        if cause is None:
            return  # another delivery has judged it meanwhile
        logger.error(
            "refused: %s",
            error.message,
            extra={"credential_id": write.credential_id, "job_id": write.job_id, "error": error.code},
        )
        attempts.announce(FailedAttempt(None, cause))
    except Exception as error:  # noqa: BLE001 - recorded as an attempt of this one alone
        _fail_alone(write, error)


def _fail_alone(write: Verifiable, error: Exception) -> None:
    """Something unforeseen: an attempt of this write, which is tried again by itself."""
    try:
        with attempts.at_writes([write.id], stage=STAGE):
            raise error
    except Retry as retry:
        messages.send("hash_verify_many", [write.id], priority=write.priority, delay_ms=retry.delay)


def check(write: Verifiable) -> bool:
    """Whether there was a document to compare with.

    Raises `UnknownCredential`, `HashMismatch`; `WorkerKilled` for one that is delivered too often.
    """
    if write.deliveries > MAX_DELIVERIES:
        raise WorkerKilled(
            f"credential {write.credential_id!r}: its worker died in each of {MAX_DELIVERIES} tries"
        )
    if not write.known:
        raise UnknownCredential(f"credential {write.credential_id!r}: there is no such credential")
    if write.document is None:
        expected = (write.credential_hash or write.data_hash).lower().removeprefix("0x")
    else:
        expected = hash_of_text(write.document)
    if expected != write.data_hash:
        raise HashMismatch(
            f"credential {write.credential_id!r}: data hash {write.data_hash} was queued, "
            f"its {'document' if write.document is not None else 'row'} has {expected}"
        )
    return write.document is not None


def _join(passed: dict[tuple[str, bool], list[int]]) -> None:
    settings = get_settings()
    for lane in ("urgent", "normal"):
        linger_ms = 0 if lane == "urgent" else settings.batch_linger_ms
        made = joining.join(
            passed.get((lane, True), []),
            passed.get((lane, False), []),
            lane=lane,
            max_size=settings.batch_max_size,
            linger_seconds=linger_ms / 1000,
        )
        if made:
            messages.write(lane, delay_ms=linger_ms or None)
        if linger_ms and batches.next_ready() is not None:
            messages.write(lane)  # a full one waits for nobody

"""The first stage: is the hash that of the document? What passes joins a batch."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

from pipeline import attempts, messages
from pipeline.database import retrying
from pipeline.errors import HashMismatch, PipelineError, UnknownCredential
from pipeline.hashing import document_hash, load_document
from pipeline.ledger import batches, dead_letters, verification
from pipeline.ledger.attempts import FailedAttempt
from pipeline.ledger.sql import chunks
from pipeline.ledger.verification import Verifiable
from pipeline.models import State
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

STAGE = "hash_verify"

#: Writes whose documents are in memory at once.
CHUNK = 100


def verify(write_ids: Sequence[int]) -> None:
    """Verify those of ``write_ids`` that still wait for it. A bad one fails alone, at once."""
    passed: defaultdict[tuple[str, bool], list[int]] = defaultdict(list)
    begun: list[int] = []
    for part in chunks(write_ids, CHUNK):
        for write in retrying(lambda part=part: verification.begin(part)):  # type: ignore[misc]
            begun.append(write.id)
            _judge(write, passed)
    with attempts.at_writes(begun, stage=STAGE):
        _join(passed)


def _judge(write: Verifiable, passed: dict[tuple[str, bool], list[int]]) -> None:
    try:
        passed[write.priority, check(write)].append(write.id)
    except PipelineError as error:
        cause = dead_letters.bury([write.id], error, state=State.QUEUED, stage=STAGE)
        if cause is None:
            return  # another delivery has judged it meanwhile
        logger.error(
            "refused: %s",
            error.message,
            extra={"credential_id": write.credential_id, "job_id": write.job_id, "error": error.code},
        )
        attempts.announce(FailedAttempt(None, cause))


def check(write: Verifiable) -> bool:
    """Whether there was a document to compare with. Raises `UnknownCredential`, `HashMismatch`."""
    if not write.known:
        raise UnknownCredential(f"credential {write.credential_id!r}: there is no such credential")
    if write.document is None:
        expected = (write.credential_hash or write.data_hash).lower().removeprefix("0x")
    else:
        expected = document_hash(load_document(write.document))
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
        made = verification.join(
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

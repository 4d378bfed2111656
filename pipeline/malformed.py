"""Messages of which nothing can be made: a dead letter and an alert at once, never a retry."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from peewee import PeeweeException

from pipeline import attempts
from pipeline.errors import DatabaseUnavailable, InvalidInput
from pipeline.ledger import queueing
from pipeline.ledger.attempts import FailedAttempt

logger = logging.getLogger(__name__)

#: Seconds, and milliseconds, after which what could not be recorded is looked at again.
LOOK_AGAIN_SECONDS = 5
LOOK_AGAIN_MS = LOOK_AGAIN_SECONDS * 1000

#: What is known of a message's write when nothing is.
NO_PARTS = {"credential_id": "", "data_hash": ""}


def refuse(job_id: str, why: str, *, stage: str, parts: Mapping[str, object] | None = None) -> bool:
    """Record a dead letter for a message with what ``parts`` it has, and have the alert raised.

    The log gets ``why``, and nothing of the message. False when SQL is away: look again later.
    """
    error = InvalidInput(why)
    try:
        cause_id = queueing.refuse_malformed(job_id, {**NO_PARTS, **(parts or {})}, error, stage=stage)
    except (PeeweeException, DatabaseUnavailable) as exc:
        logger.warning("a malformed message is not recorded yet: %s", type(exc).__name__)
        return False
    if cause_id is not None:
        logger.error("refused: %s", why, extra={"job_id": job_id, "stage": stage, "error": error.code})
        attempts.announce(FailedAttempt(None, cause_id))
    return True

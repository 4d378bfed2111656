"""Where an exception becomes a failed attempt in SQL, and a `Retry` for Dramatiq to wait on.

A database that is away costs no attempt: nothing could be recorded, and the row is as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dramatiq.errors import Retry

from pipeline import messages
from pipeline.errors import DatabaseUnavailable, PipelineError
from pipeline.ledger import batches, verification
from pipeline.ledger.attempts import FailedAttempt
from pipeline.ledger.batches import Ready
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

Record = Callable[[PipelineError], list[FailedAttempt]]


class UnexpectedError(PipelineError):
    """Something that no part of the pipeline foresaw; transient, like everything unknown."""


@contextmanager
def at_batches(group: Sequence[Ready], *, stage: str) -> Iterator[None]:
    """An attempt at batches: what is raised inside costs each member one attempt."""
    for batch in group:
        if batch.retrying:  # of the others none has failed before, so that there is none to be counted
            batches.begin_attempt(batch.id)
    settings = get_settings()

    def record(error: PipelineError) -> list[FailedAttempt]:
        return [
            batches.fail_attempt(
                batch.id,
                error,
                stage=stage,
                max_attempts=settings.retry_max_attempts,
                min_backoff_ms=settings.retry_min_backoff_ms,
            )
            for batch in group
        ]

    with _recorded(record, fields={"batch_id": group[0].id, "stage": stage}):
        yield


@contextmanager
def at_writes(write_ids: Sequence[int], *, stage: str) -> Iterator[None]:
    """An attempt at queued writes that have begun one."""
    settings = get_settings()
    with _recorded(
        lambda error: [
            verification.fail_attempt(
                write_ids,
                error,
                stage=stage,
                max_attempts=settings.retry_max_attempts,
                min_backoff_ms=settings.retry_min_backoff_ms,
            )
        ],
        fields={"stage": stage},
    ):
        yield


@contextmanager
def _recorded(record: Record, *, fields: dict[str, object]) -> Iterator[None]:
    try:
        yield
    except (Retry, DatabaseUnavailable):
        raise
    except Exception as exc:
        error = exc if isinstance(exc, PipelineError) else UnexpectedError(type(exc).__name__)
        unforeseen = not isinstance(exc, PipelineError)
        failed = record(error)
        delays_ms = [one.retry_in_ms for one in failed if one.retry_in_ms is not None]
        _log(error, {**fields, "error": error.code}, unforeseen=unforeseen, again=bool(delays_ms))
        for one in failed:
            announce(one)
        if delays_ms:
            if len(delays_ms) > 1:  # each has a time of its own
                messages.write("normal", delay_ms=max(delays_ms))
            raise Retry(error.code, delay=min(delays_ms)) from exc


def _log(error: PipelineError, fields: dict[str, object], *, unforeseen: bool, again: bool) -> None:
    """Why it failed, unless the lines of what is delayed say so; with the stack if nobody foresaw it."""
    if unforeseen:
        logger.exception("attempt failed: %s", error.message, extra=fields)
    elif not again:
        logger.warning("attempt failed: %s", error.message, extra=fields)


def announce(failed: FailedAttempt) -> None:
    """Have the alert raised for what has failed for good."""
    if failed.cause_id is not None:
        messages.send("dead_letter", failed.cause_id)

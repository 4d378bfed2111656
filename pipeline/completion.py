"""The last stage: the credentials' rows say ``confirmed``, and who waits gets the result."""

from __future__ import annotations

import logging

import dramatiq
from dramatiq.results import Results

from pipeline.ledger.confirmation import ConfirmedWrite, confirm
from pipeline.results import JobResults
from pipeline.settings import get_settings
from pipeline.status import results_of

logger = logging.getLogger(__name__)

QUEUES = {"urgent": "urgent", "normal": "hash_verify"}


def complete(batch_id: int) -> None:
    """Confirm the members of a settled batch."""
    confirmed = confirm(batch_id)
    if not confirmed:
        return
    logger.info("confirmed %d", len(confirmed), extra={"batch_id": batch_id})
    _keep_results([write for write in confirmed if write.own_message])


def _keep_results(writes: list[ConfirmedWrite]) -> None:
    backend = job_results()
    if not writes or backend is None:
        return
    from redis import RedisError

    results = results_of([write.write_id for write in writes])
    by_key = {(write.job_id, QUEUES[write.priority]): results[write.write_id] for write in writes}
    try:
        backend.keep_completed(by_key, ttl_ms=get_settings().result_completed_max_age_seconds * 1000)
    except RedisError as exc:  # SQL has them all
        logger.warning("results were not kept in Redis: %s", type(exc).__name__)


def job_results() -> JobResults | None:
    """The broker's result backend, where it is ours."""
    backends = [m.backend for m in dramatiq.get_broker().middleware if isinstance(m, Results)]
    return next((backend for backend in backends if isinstance(backend, JobResults)), None)

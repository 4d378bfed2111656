"""The last stage: the credentials' rows say ``confirmed``, and who waits gets the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dramatiq.results import Results

from pipeline import current, events
from pipeline.ledger import erasure
from pipeline.ledger.confirmation import ConfirmedWrite, confirm_many
from pipeline.metrics import catalogue, recorder
from pipeline.results import JobResults
from pipeline.settings import get_settings
from pipeline.status import results_of

logger = logging.getLogger(__name__)


def complete(batch_id: int) -> None:
    """Confirm the members of a settled batch."""
    complete_many([batch_id])


def complete_many(batch_ids: Sequence[int]) -> None:
    """Confirm the members of settled batches."""
    begin = time.perf_counter()
    confirmed = confirm_many(batch_ids)
    if not confirmed:
        return
    recorder.observe(catalogue.STAGE_DURATION, [time.perf_counter() - begin], stage="db_update")
    _keep_results([write for write in confirmed if write.own_message])
    events.publish()


def _keep_results(writes: list[ConfirmedWrite]) -> None:
    if not writes:
        return
    jobs = {write.write_id: write.job_id for write in writes}
    keep_completed(jobs, results_of(list(jobs)))


def keep_completed(jobs: Mapping[int, str], results: Mapping[int, dict[str, Any]]) -> None:
    """Store ``results`` of completed writes, whose ``jobs`` are, for who waits with ``get_result``.

    One that was erased after they were read is removed again: the erasure has not found it in Redis.
    """
    by_job = {jobs[write_id]: result for write_id, result in results.items()}
    keep_results(by_job, ttl_ms=get_settings().result_completed_max_age_seconds * 1000)
    with_salt = [write_id for write_id, result in results.items() if result["leaf_salt"] is not None]
    _erase_results([jobs[write_id] for write_id in erasure.among(with_salt)])


def keep_results(values: Mapping[str, Any], *, ttl_ms: int) -> None:
    """Store the ends of jobs, by job id, for who waits with ``get_result``."""
    if values:
        _try("kept in Redis", lambda backend: backend.keep(values, ttl_ms=ttl_ms))


def forget_results(job_ids: Sequence[str]) -> None:
    """Remove the ends of jobs that are not at their end any more."""
    if job_ids:
        _try("removed from Redis", lambda backend: backend.forget(job_ids))


def _erase_results(job_ids: Sequence[str]) -> None:
    if job_ids:
        _try("removed from Redis, though erased", lambda backend: backend.erase(job_ids))


def _try(what: str, act: Callable[[JobResults], None]) -> None:
    """A Redis that is away is no error: SQL has all results."""
    from redis import RedisError

    backend = job_results()
    if backend is None:
        return
    try:
        act(backend)
    except RedisError as exc:
        logger.warning("results were not %s: %s", what, type(exc).__name__)


def renew_result(job_id: str, write_id: int) -> None:
    """Store the end of a job that is completed already, for who asks for it now."""
    keep_completed({write_id: job_id}, results_of([write_id]))


def close_results() -> None:
    """Close the connections on which results are kept and waited for."""
    backend = job_results()
    if backend is not None:
        backend.close()


def job_results() -> JobResults | None:
    """The broker's result backend, where it is ours."""
    backends = [m.backend for m in current.broker().middleware if isinstance(m, Results)]
    return next((backend for backend in backends if isinstance(backend, JobResults)), None)

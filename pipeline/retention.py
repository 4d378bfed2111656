"""Retention: finished jobs leave counts, lists and Redis; their tombstones answer on."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline import transitions
from pipeline.completion import job_results
from pipeline.ledger import control, retention, sessions, verification
from pipeline.settings import get_settings

#: What a worker that died was verifying is delivered again within seconds, or after an outage.
FORGOTTEN_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Purged:
    """How many jobs were removed."""

    completed_removed: int
    failed_removed: int


def purge() -> Purged:
    """Run retention to its end, in bounded batches; harmless when run twice."""
    settings = get_settings()
    now = time.time()
    completed = failed = 0
    for gone in retention.purge_completed(
        finished_before=now - settings.result_completed_max_age_seconds,
        keep_newest=settings.result_completed_max_count,
    ):
        completed += len(gone)
        _forget(gone)
    for gone in retention.purge_failed(finished_before=now - settings.result_failed_max_age_seconds):
        failed += len(gone)
        _forget(gone)
    sessions.forget_old()
    verification.forget_old(now - FORGOTTEN_SECONDS)
    control.write(control.LAST_PURGE, repr(now))
    if completed or failed:
        transitions.tell(
            "purged", count=completed + failed, completed_removed=completed, failed_removed=failed
        )
    return Purged(completed, failed)


def _forget(job_ids: list[str]) -> None:
    backend = job_results()
    if backend is not None:
        backend.forget(job_ids)

"""Sentry's cron monitors: a periodic job that is late, fails or hangs is told of, by who waits for it.

Nobody in the pipeline can tell that the scheduler is gone; Sentry can, as nothing checks in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pipeline import alerts

#: The name of the purge's monitor in Sentry.
PURGE = "credential-pipeline-purge"


@contextmanager
def checked_in(monitor: str, crontab: str) -> Iterator[None]:
    """Check in at the begin and at the end of what is done inside, which is "error" when it raises.

    Nothing without Sentry. Each run has an id of its own, so that one of a second scheduler, or one that
    comes late, is another run of the same monitor.
    """
    check_in_id, begin = uuid4().hex, time.monotonic()
    alerts.capture_check_in(monitor=monitor, check_in_id=check_in_id, status="in_progress", crontab=crontab)
    completed = False
    try:
        yield
        completed = True
    finally:
        alerts.capture_check_in(
            monitor=monitor,
            check_in_id=check_in_id,
            status="ok" if completed else "error",
            crontab=crontab,
            duration_seconds=time.monotonic() - begin,
        )

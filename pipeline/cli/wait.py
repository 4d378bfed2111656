"""``wait``: until writes are terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline import status

POLL_SECONDS = 0.2


def wait_for(credential_ids: Sequence[str], timeout_seconds: float | None) -> dict[str, int]:
    """Completed, failed and pending ones, once none is pending or time is up."""
    look: Callable[[], dict[str, int]] = (lambda: _these(credential_ids)) if credential_ids else _all
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        found = look()
        if not found["pending"] or (deadline is not None and time.monotonic() >= deadline):
            return found
        time.sleep(POLL_SECONDS)  # the rows are the truth, and are polled


def _these(credential_ids: Sequence[str]) -> dict[str, int]:
    states = Counter(status.status_of_credential(id_)["status"] for id_ in credential_ids)
    pending = len(credential_ids) - states["completed"] - states["failed"]
    return {"completed": states["completed"], "failed": states["failed"], "pending": pending}


def _all() -> dict[str, int]:
    counts = status.counts()
    pending = counts["waiting"] + counts["active"] + counts["delayed"]
    return {"completed": counts["completed"], "failed": counts["failed"], "pending": pending}

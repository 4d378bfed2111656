"""Dramatiq's retries, which do the waiting; the attempts themselves are counted in SQL."""

from __future__ import annotations

from dramatiq.errors import Retry
from dramatiq.middleware import Retries

#: Three attempts in all.
MAX_RETRIES = 2
MIN_BACKOFF_MS = 5000


class AttemptRetries(Retries):
    """Grants every `Retry`, since the ledger has counted; caps what else is raised."""

    def __init__(self) -> None:
        super().__init__(max_retries=MAX_RETRIES, min_backoff=MIN_BACKOFF_MS, retry_when=may_retry)


def may_retry(retries: int, exception: BaseException) -> bool:
    """Whether a message that was retried ``retries`` times goes out once more."""
    from pipeline.settings import get_settings

    return isinstance(exception, Retry) or retries < get_settings().retry_max_attempts - 1

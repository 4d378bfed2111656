"""One line in the log for each step that a job takes, with its ids as fields.

``event`` is the step: queued, verified, delayed, written, mined, completed, failed, replayed; unmined,
unconfirmed and unwritten for the ways back; discarded, erased, purged; paused and resumed, of no job.
The lines are of one logger, ``pipeline.transitions``.

Up to `LINES` jobs that take a step together have a line each. More are one line with their ``count``, at
DEBUG a line each besides: a batch of a thousand, or a hundred thousand that are handed in together, cost
a line a step. Each job's line says which batch it is in from ``verified`` on.

Told inside a transaction, a step is logged once that is committed, and never when it is rolled back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pipeline.database import database

logger = logging.getLogger(__name__)

#: Job id and credential id.
Job = tuple[str, str]

#: More jobs than this are one line.
LINES = 10

#: Steps that somebody may have to look at are warnings.
WARNINGS = frozenset({"delayed", "failed", "unmined", "unconfirmed", "unwritten"})


def is_one_line(count: int) -> bool:
    """Whether so many jobs are one line only: then nobody has to read who they are."""
    return count > LINES and not logger.isEnabledFor(logging.DEBUG)


def tell(event: str, jobs: Sequence[Job] = (), *, count: int | None = None, **fields: Any) -> None:
    """Log that these jobs have taken a step; one of no job without them.

    ``count``: of how many, where ``jobs`` are not read (`is_one_line`). ``fields`` are those of
    `pipeline.logs.FIELDS`, and others; None is left out.
    """
    count = len(jobs) if count is None else count
    if database.obj is not None and database.in_transaction():
        database.after_commit(lambda: _log(event, jobs, count, fields))
    else:
        _log(event, jobs, count, fields)


def _log(event: str, jobs: Sequence[Job], count: int, fields: dict[str, Any]) -> None:
    level = logging.WARNING if event in WARNINGS else logging.INFO
    common = {"event": event, **fields}
    if count > min(len(jobs), LINES):
        logger.log(level, "%s: %d job%s", event, count, "s" * (count > 1), extra={**common, "count": count})
        level = logging.DEBUG
    elif not count:
        logger.log(level, "%s", event, extra=common)
    for job_id, credential_id in jobs if logger.isEnabledFor(level) else ():
        mine = {"job_id": job_id, "credential_id": credential_id}
        logger.log(level, "%s: %s", event, credential_id, extra={**common, **mine})

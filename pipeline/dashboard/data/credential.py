"""One credential: its jobs, the way of one of them, and why that waits. Neither document nor metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import status, timeline
from pipeline.dashboard.data import batches, jobs, why
from pipeline.dashboard.data.batches import BatchRow
from pipeline.dashboard.data.jobs import Job
from pipeline.dashboard.data.why import Why
from pipeline.database import reading
from pipeline.errors import UnknownCredential
from pipeline.models import Write

#: Jobs that are shown, the newest.
JOBS = 50


@dataclass(frozen=True, slots=True)
class Detail:
    """``status`` is the newest job's, as pollers get it; the rest is of ``job``."""

    status: dict[str, Any]
    jobs: tuple[Job, ...]
    job: Job
    timeline: tuple[dict[str, Any], ...]
    why: Why | None
    batch: BatchRow | None


@reading
def detail(credential_id: str, *, job_id: str | None = None) -> Detail:
    """A credential with its newest job, or with the one that is named.

    Raises `UnknownCredential`, and `LookupError` for a job of another credential.
    """
    if "\0" in credential_id:  # no database has it, and PostgreSQL takes none to look for
        raise UnknownCredential("a credential id has no NUL in it")
    document = status.status_of_credential(credential_id)
    mine = status.select().where(Write.credential_id == credential_id)
    rows = list(mine.order_by(*status.NEWEST_FIRST).limit(JOBS))
    chosen = rows[0] if job_id is None else _chosen(mine, job_id)
    view = jobs.viewer()
    job = view(chosen)
    return Detail(
        status=document,
        jobs=tuple(view(row) for row in rows),
        job=job,
        timeline=tuple(timeline.of(chosen.id)),
        why=why.explain(job.status, job.reason, pause=why.pause(), error=job.error),
        batch=None if chosen.batch is None else batches.row_of(chosen.batch),
    )


def _chosen(mine: Any, job_id: str) -> Any:
    found = None if "\0" in job_id else mine.where(Write.job_id == job_id).first()
    if found is None:
        raise LookupError(f"the credential has no job {job_id!r}")
    return found

"""What machines ask: JSON, metrics, and whether this process can do its work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from peewee import PeeweeException
from redis import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pipeline import health, status
from pipeline.dashboard.visit import NotFound, Visit
from pipeline.errors import PipelineError, UnknownCredential
from pipeline.ledger import history
from pipeline.metrics import exposition
from pipeline.settings import get_settings
from pipeline.stats import stats as collect

#: The longest list that is given at once, and the plots' longest time, in hours.
MAX_JOBS, MAX_HOURS = 1000, 24 * 7


def stats(visit: Visit) -> Response:
    """What ``credential-pipeline stats`` says."""
    return JSONResponse(collect())


def jobs(visit: Visit) -> Response:
    """The jobs of one state, oldest first: ``?state=failed&start=0&end=100``."""
    state = visit.asked("state")
    if state not in status.LISTS:
        return JSONResponse({"error": f"state must be one of {', '.join(status.LISTS)}"}, 400)
    try:
        start = visit.number("start", 0, most=10**9)
        end = visit.number("end", start + 100, most=10**9)
    except NotFound as exc:
        return JSONResponse({"error": str(exc)}, 400)
    if not start <= end <= start + MAX_JOBS:
        return JSONResponse({"error": f"end must be from start to start + {MAX_JOBS}"}, 400)
    return JSONResponse(status.jobs(state, start, end))


def job(visit: Visit) -> Response:
    """The status of a credential's newest write."""
    credential_id = visit.request.path_params["credential_id"]
    if "\0" in credential_id:  # no database has it, and PostgreSQL takes none to look for
        return JSONResponse({"error": "a credential id has no NUL in it"}, 404)
    try:
        return JSONResponse(status.status_of_credential(credential_id))
    except UnknownCredential as exc:
        return JSONResponse({"error": exc.message}, 404)


def past(visit: Visit) -> Response:
    """The samples of the last ``?hours=``, column by column, for the plots."""
    try:
        hours = visit.number("hours", 1, most=MAX_HOURS)
    except NotFound as exc:
        return JSONResponse({"error": str(exc)}, 400)
    samples = history.read(time.time() - hours * 3600)
    columns = [field.name for field in fields(history.Sample)]
    return JSONResponse({name: [getattr(sample, name) for sample in samples] for name in columns})


def metrics(visit: Visit) -> Response:
    """What Prometheus scrapes."""
    body, content_type = exposition.render()
    return Response(body, media_type=content_type)


async def healthz(request: Request) -> Response:
    """This process lives: answered by its event loop, whatever its threads wait for."""
    return PlainTextResponse("ok\n")


def readyz(visit: Visit) -> Response:
    """Whether Redis, SQL and the node answer; 503 when one does not."""
    settings = get_settings()
    checks: dict[str, Callable[[], Any]] = {
        "redis": lambda: health.ask_redis(settings),
        "database": lambda: health.ask_database(settings),
    }
    if not settings.blockchain_mock_enabled:
        checks["node"] = lambda: health.ask_node(settings)
    found = {name: _answers(ask) for name, ask in checks.items()}
    return JSONResponse(found, 200 if all(found.values()) else 503)


def _answers(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (RedisError, PeeweeException, PipelineError):
        return False
    return True


ROUTES = {
    "/api/stats": stats,
    "/api/jobs": jobs,
    "/api/jobs/{credential_id:path}": job,
    "/api/history": past,
}

"""The web application: its routes, and what each request goes through.

Handlers are plain functions that run in a few threads of their own, each with its connection
to the database, so that a slow query holds up neither the others nor the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from peewee import PeeweeException
from redis import RedisError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.dashboard import actions, api, log_in, pages
from pipeline.dashboard.access import CSRF_FIELD, CSRF_HEADER, Access, LogInRefused, Visitor, is_forwarded
from pipeline.dashboard.guard import Guard
from pipeline.dashboard.passwords import PasswordFile
from pipeline.dashboard.visit import NotFound, Visit, page
from pipeline.database import drop_broken_connection
from pipeline.errors import CredentialErased, DatabaseUnavailable, InvalidInput, PipelineError
from pipeline.settings import Settings

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

#: Threads for pages and API, and for what asks servers on behalf of who watches: they must not wait
#: behind a page. Whether this process is alive is answered without any, as these may all hang.
PAGE_THREADS, PROBE_THREADS = 4, 2

#: Who watches is told that a server does not answer when it takes longer.
PROBE_SECONDS = 8.0

#: A form is on its way no longer than this.
FORM_SECONDS = 10.0

Handler = Callable[[Visit], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Entry:
    """How one kind of page is entered."""

    access: Access
    threads: ThreadPoolExecutor
    #: Machines ask it: HTTP Basic will do, and a refusal is no log-in page.
    machine: bool = False
    #: Nobody has to log in.
    public: bool = False
    #: Nor who asks without a proxy in between.
    direct: bool = False
    #: After so long the answer is 503; None: it may take as long as it takes.
    seconds: float | None = None

    def get(self, path: str, handler: Handler) -> Route:
        """A page that shows something."""
        return Route(path, self._endpoint(handler), methods=["GET"], name=handler.__name__)

    def post(self, path: str, handler: Handler) -> Route:
        """Something that operators may do; at a public entry, anybody."""
        endpoint = self._endpoint(handler, changes=not self.public)
        return Route(path, endpoint, methods=["POST"], name=handler.__name__)

    def _endpoint(self, handler: Handler, *, changes: bool = False) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(FORM_SECONDS):
                    form = await _form(request) if request.method == "POST" else {}
            except (TimeoutError, ClientDisconnect):
                return PlainTextResponse("The form did not arrive.\n", 408, {"Connection": "close"})
            work = partial(_answer, self, handler, request, form, changes)
            answer = asyncio.get_running_loop().run_in_executor(self.threads, work)
            try:
                async with asyncio.timeout(self.seconds):
                    return await answer
            except TimeoutError:  # the thread goes on waiting for a server that says nothing
                return JSONResponse({"error": f"no answer within {self.seconds:g} s"}, 503)

        return endpoint


def create_app(settings: Settings, *, loopback: bool) -> Starlette:
    """The application. ``loopback``: it is to be reached from this machine alone.

    Raises `SettingsError` for a password file that is none.
    """
    file = settings.dashboard_password_file
    passwords = PasswordFile(file) if file else None
    if passwords is not None:
        passwords.users()
    access = Access(passwords)
    threads = ThreadPoolExecutor(PAGE_THREADS, thread_name_prefix="page")
    probes = ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="probe")
    people = Entry(access, threads)
    machines = Entry(access, threads, machine=True)
    door = Entry(access, threads, public=True)
    watchers = Entry(access, probes, machine=True, direct=loopback, seconds=PROBE_SECONDS)
    ready = Entry(access, probes, machine=True, public=True, seconds=PROBE_SECONDS)
    return Starlette(
        routes=[
            *(people.get(path, handler) for path, handler in pages.ROUTES.items()),
            *(people.post(path, handler) for path, handler in actions.ROUTES.items()),
            *(machines.get(path, handler) for path, handler in api.ROUTES.items()),
            watchers.get("/metrics", api.metrics),
            Route("/healthz", api.healthz, methods=["GET"]),
            ready.get("/readyz", api.readyz),
            *log_in.routes(door),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Guard, loopback_names_only=access.is_open)],
        exception_handlers={404: _not_found, 405: _not_allowed},
    )


def _answer(
    entry: Entry, handler: Handler, request: Request, form: Mapping[str, Any], changes: bool
) -> Response:
    """What ``handler`` answers, in a thread: who asks is known, and every failure has its page."""
    drop_broken_connection()
    visitor = None
    try:
        if not (entry.machine and entry.public):  # a probe's answer hangs on nobody's password
            visitor = entry.access.visitor(request, basic=entry.machine)
        if visitor is None and not (entry.public or (entry.direct and not is_forwarded(request))):
            return _to_log_in(entry, request)
        if changes and (refusal := _refusal(visitor, request, form)):
            return _failed(entry, request, visitor, 403, refusal)
        return handler(Visit(request, visitor, entry.access, form))
    except NotFound as exc:
        return _failed(entry, request, visitor, 404, str(exc))
    except LogInRefused as exc:
        return _failed(entry, request, None, 429 if exc.limited else 401, str(exc))
    except InvalidInput as exc:
        return _failed(entry, request, visitor, 400, exc.message)
    except (DatabaseUnavailable, PeeweeException) as exc:
        logger.warning("a page could not be shown: %s", type(exc).__name__)
        return _failed(entry, request, None, 503, "The database does not answer. Nothing is lost: try again.")
    except RedisError as exc:
        logger.warning("a page could not be shown: %s", type(exc).__name__)
        return _failed(entry, request, None, 503, "Redis does not answer. Nothing is lost: try again.")
    except CredentialErased as exc:
        return _failed(entry, request, visitor, 409, exc.message)
    except PipelineError as exc:
        return _failed(entry, request, visitor, 500, exc.message)
    except Exception:  # Starlette would answer outside of `Guard`, and so without its headers
        logger.exception("a page could not be made")
        return _failed(
            entry, request, visitor, 500, "This page could not be made. The dashboard's log says why."
        )


def _refusal(visitor: Visitor | None, request: Request, form: Mapping[str, Any]) -> str | None:
    """Why this visitor may not do that."""
    if visitor is None or not visitor.may_change:
        return "Operators alone may do that."
    token = form.get(CSRF_FIELD) or request.headers.get(CSRF_HEADER)
    if not visitor.sent(token):
        return "The form is out of date: reload the page."
    return None


def _to_log_in(entry: Entry, request: Request) -> Response:
    if entry.machine:
        headers = {"WWW-Authenticate": 'Basic realm="credential-pipeline", charset="UTF-8"'}
        return JSONResponse({"error": "log in first"}, 401, headers=headers)
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = f"/login?next={quote(back, safe='')}" if request.method == "GET" and back != "/" else "/login"
    if request.headers.get("hx-request"):  # a fragment that polls: the whole page has to go
        return Response(status_code=401, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


def _failed(entry: Entry, request: Request, visitor: Visitor | None, code: int, text: str) -> Response:
    if entry.machine:
        return JSONResponse({"error": text}, code)
    return page(Visit(request, visitor, entry.access, {}), "failed.html", code, code=code, text=text)


async def _form(request: Request) -> dict[str, Any]:
    """The fields of a form: a text each, and a list for what may be there more than once (``…[]``)."""
    async with request.form(max_files=0, max_fields=2000) as form:
        return {key: form.getlist(key) if key.endswith("[]") else str(form[key]) for key in form}


async def _not_found(request: Request, exc: Exception) -> Response:
    visit = Visit(request, None, Access(None), {})
    return page(visit, "failed.html", 404, code=404, text="There is no such page.")


async def _not_allowed(request: Request, exc: Exception) -> Response:
    return PlainTextResponse("Not with this method.\n", 405)

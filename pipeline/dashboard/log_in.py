"""The door: log in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pipeline.dashboard.access import COOKIE, LogInRefused, address_of
from pipeline.dashboard.visit import Visit, page
from pipeline.ledger.sessions import SESSION_SECONDS

if TYPE_CHECKING:
    from pipeline.dashboard.app import Entry


def routes(door: Entry) -> list[Route]:
    """The routes that need nobody to be logged in."""
    return [
        door.get("/login", form),
        door.post("/login", log_in),
        door.post("/logout", log_out),
    ]


def form(visit: Visit) -> Response:
    """The page that asks for name and password."""
    if visit.visitor is not None:
        return RedirectResponse(path_of_ours(visit.asked("next")), 303)
    return page(visit, "log_in.html", next=path_of_ours(visit.asked("next")), fault=None, name="")


def log_in(visit: Visit) -> Response:
    """Check the password and set the cookie. No CSRF token: there is no session yet. See `Guard`."""
    name, password = visit.form.get("name", ""), visit.form.get("password", "")
    target = path_of_ours(visit.form.get("next"))
    if visit.access.is_open:
        return RedirectResponse(target, 303)
    try:
        token = visit.access.log_in(name, password, address=address_of(visit.request))
    except LogInRefused as exc:
        code = 429 if exc.limited else 401
        return page(visit, "log_in.html", code, next=target, fault=str(exc), name=name)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_SECONDS),
        httponly=True,
        samesite="lax",
        secure=visit.request.url.scheme == "https",
    )
    return answer


def log_out(visit: Visit) -> Response:
    """End the session."""
    visit.access.log_out(visit.request)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


def path_of_ours(asked: str | None) -> str:
    """Where to go after the log-in: a path of ours, and no other page's address."""
    path = asked or "/"
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours and "\\" not in path else "/"

"""One request on its way through a handler, and the page that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from pipeline.dashboard.access import Access, Visitor
from pipeline.dashboard.notices import notice_of
from pipeline.dashboard.rendering import render


class NotFound(Exception):
    """What was asked for is not there; the text says what."""


@dataclass(frozen=True)
class Visit:
    """What a handler knows: the request, who asks (None: nobody has to log in here), and the form."""

    request: Request
    visitor: Visitor | None
    access: Access
    form: Mapping[str, Any]

    def asked(self, name: str) -> str | None:
        """A parameter of the query; None when it is missing or empty."""
        return self.request.query_params.get(name) or None

    def number(self, name: str, default: int, *, most: int) -> int:
        """The same as a number of 0 to ``most``. Raises `NotFound` for anything else."""
        text = self.asked(name)
        if text is None:
            return default
        if not text.isdecimal() or len(text) > 18 or int(text) > most:
            raise NotFound(f"{name} must be a number up to {most}")
        return int(text)


def page(visit: Visit, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """The page made of ``template``."""
    request = visit.request
    text = render(
        template,
        visitor=visit.visitor,
        is_open=visit.access.is_open,
        path=request.url.path,
        address=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        notice=notice_of(visit.asked("notice")),
        **values,
    )
    return HTMLResponse(text, status_code)

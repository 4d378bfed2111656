"""What holds for every request and answer: headers, the Host, and how long a body may be."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.dashboard.access import is_forwarded, is_loopback_host

#: No inline script or style, nothing of another origin, no frame around us.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

#: Where a form of ours comes from, as browsers tell; "none": it was typed.
OUR_SITE = ("same-origin", "none")

#: The longest body of a request, in bytes: a form with two thousand dead letters in it.
MAX_BODY_BYTES = 128 * 1024


class TooLong(Exception):
    """A body that does not end."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, loopback_names_only: bool) -> None:
        self._app = app
        self._loopback_names_only = loopback_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        static = request.url.path.startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
            await send(message)

        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, _limited(receive), send_with_headers)
        except TooLong:
            await PlainTextResponse("Too long.\n", 413)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        if self._loopback_names_only and (not is_loopback_host(request) or is_forwarded(request)):
            return PlainTextResponse("Without a password file this page is for localhost alone.\n", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12 or int(length) > MAX_BODY_BYTES:
            return PlainTextResponse("Too long.\n", 413)
        # Browsers say so of each request: https://www.w3.org/TR/fetch-metadata/
        if request.method != "GET" and request.headers.get("sec-fetch-site", "none") not in OUR_SITE:
            return PlainTextResponse("Not from another page.\n", 403)
        return None


def _limited(receive: Receive) -> Receive:
    """``receive`` that gives up where a body without a length gets too long."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise TooLong
        return message

    return limited

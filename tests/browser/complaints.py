"""What a browser complains about while a test uses it."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

#: A page that is left, or closed, gives up what it was loading.
GIVEN_UP = "net::ERR_ABORTED"


class Complaints:
    """Errors and warnings in the console (what the CSP refuses is one), in scripts, and in loading."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        """Collect from all pages of this context."""
        context.on("console", self._console)
        context.on("weberror", self._script)
        context.on("requestfailed", self._request)

    def take(self, part: str) -> list[str]:
        """Take those that contain ``part``: the test expects them. There must be one."""
        taken = [text for text in self._texts if part in text]
        assert taken, f"no complaint contains {part!r}: {self._texts}"
        self._texts = [text for text in self._texts if part not in text]
        return taken

    def check(self) -> None:
        """Fail when there are any that no test took."""
        assert not self._texts, "the browser complains:\n" + "\n".join(self._texts)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            where = message.location
            self._texts.append(f"console: {message.text} ({where.get('url')}:{where.get('lineNumber')})")

    def _script(self, error: WebError) -> None:
        self._texts.append(f"script: {error.error}")

    def _request(self, request: Request) -> None:
        if request.failure != GIVEN_UP:
            self._texts.append(f"request: {request.url}: {request.failure}")

"""A fake Sentry that keeps the events it is sent: kent."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar

from pipeline.embedded.server import Server, free_port

#: How long `Kent.wait_for` waits by default: the SDK sends from a thread of its own.
ARRIVAL_TIMEOUT_SECONDS = 10.0


class Kent(Server):
    """One kent. It keeps the last 100 items, or as many as ``keep`` says."""

    name: ClassVar[str] = "kent"

    def __init__(self, directory: Path, *, port: int | None = None, keep: int = 100) -> None:
        super().__init__(directory.absolute())
        self._keep = keep
        self.port = port or free_port()

    @property
    def dsn(self) -> str:
        """What goes into ``SENTRY_DSN``."""
        return f"http://public@127.0.0.1:{self.port}/1"

    def items(self) -> list[dict[str, Any]]:
        """Everything that was received, oldest first: ``{"header", "body", "envelope_header"}``."""
        listed = self._ask("GET", "/api/eventlist/")["events"]
        return [self._ask("GET", f"/api/event/{item['event_id']}")["payload"] for item in listed]

    def events(self) -> list[dict[str, Any]]:
        """The bodies of the events (not of sessions or transactions), oldest first."""
        return self._bodies("event")

    def check_ins(self) -> list[dict[str, Any]]:
        """The bodies of the check-ins of monitors, oldest first."""
        return self._bodies("check_in")

    def _bodies(self, kind: str) -> list[dict[str, Any]]:
        items = self.items()
        return [item["body"] for item in items if (item["header"] or {}).get("type", "event") == kind]

    def wait_for(self, count: int, timeout_seconds: float = ARRIVAL_TIMEOUT_SECONDS) -> list[dict[str, Any]]:
        """The events, once there are ``count``. Raises `AssertionError` when they don't come."""
        deadline = time.monotonic() + timeout_seconds
        while len(events := self.events()) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(events)} events came, not {count}: {events}")
            time.sleep(0.05)
        return events

    def flush(self) -> None:
        """Forget all."""
        self._ask("POST", "/api/flush/")

    def _ask(self, method: str, path: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def _command(self) -> Sequence[str | Path]:
        keeping = f"from kent import app; app.EventManager.MAX_EVENTS = {self._keep}"
        start = "import sys; from kent.cli_server import main; sys.argv[0] = 'kent-server'; main()"
        return [sys.executable, "-c", f"{keeping}; {start}", "run", "--host=127.0.0.1", f"--port={self.port}"]

    def _is_ready(self) -> bool:
        try:
            self._ask("GET", "/api/eventlist/")
        except OSError:
            return False
        return True

"""The dashboard as a process that a command, or a test, owns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import ClassVar

from pipeline.embedded.server import Server, free_port

#: How long one question whether it is ready may take.
HEALTH_TIMEOUT_SECONDS = 2.0


class DashboardServer(Server):
    """``credential-pipeline dashboard`` on the loopback address. Ready when /healthz says 200.

    ``environment`` is the whole environment. It works where its owner does (``.env``) unless told
    otherwise.
    """

    name: ClassVar[str] = "dashboard"

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str],
        working_directory: Path | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(directory.absolute())
        self.port = port or free_port()
        self._variables = dict(environment)
        self._works_in = working_directory or Path.cwd()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def _environment(self) -> Mapping[str, str]:
        return self._variables

    def _working_directory(self) -> Path:
        return self._works_in

    def _command(self) -> Sequence[str | Path]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "pipeline.cli", "dashboard", *address]

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HEALTH_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

"""``credential-pipeline dashboard`` as a process that a command owns."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.embedded.server import Server, free_port

#: The longest wait for one answer while it starts, in seconds.
ANSWER_TIMEOUT_S = 2


class DashboardServer(Server):
    """The dashboard on a loopback address. ``environment`` is the whole environment."""

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
        self._variables = dict(environment)
        self._works_in = working_directory or Path.cwd()
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str | Path]:
        program = Path(sys.executable).with_name("credential-pipeline")
        return [program, "dashboard", "--port", str(self.port)]

    def _environment(self) -> Mapping[str, str]:
        return self._variables

    def _working_directory(self) -> Path:
        return self._works_in

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310 - an address of ours
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

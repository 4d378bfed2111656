"""Dramatiq workers and the periodiq scheduler as processes that a command owns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.embedded.server import Server

#: What both load unless told otherwise.
ROSTER = "pipeline.actors"
#: Log levels at which Dramatiq does not tell that its workers are ready.
TOO_QUIET = {"WARNING", "ERROR", "CRITICAL"}


class _LoggedServer(Server):
    """One that tells in its log when it is ready, and works where its owner does (``.env``)."""

    #: The text that the log must hold.
    ready_text: ClassVar[str]

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str],
        working_directory: Path | None = None,
        roster: str = ROSTER,
    ) -> None:
        super().__init__(directory.absolute())
        self._roster = roster
        self._variables = dict(environment)
        self._works_in = working_directory or Path.cwd()
        self._log_start = 0

    def _environment(self) -> Mapping[str, str]:
        return self._variables

    def _working_directory(self) -> Path:
        return self._works_in

    def _prepare(self) -> None:
        super()._prepare()
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0

    def log(self) -> str:
        """What it has logged since it was last started."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def _ready_count(self) -> int:
        return self.log().count(self.ready_text)

    def _is_ready(self) -> bool:
        return self._ready_count() >= 1


class Workers(_LoggedServer):
    """``dramatiq pipeline.actors``: one master, and ``processes`` workers of ``threads`` threads.

    ``environment`` is the whole environment; its ``LOG_LEVEL`` must be INFO or lower.
    `stop` lets running messages end, as SIGTERM does. More than one of these may run.
    """

    name: ClassVar[str] = "workers"
    ready_text: ClassVar[str] = "Worker process is ready for action."
    stop_timeout_seconds: ClassVar[float] = 15.0

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str],
        working_directory: Path | None = None,
        roster: str = ROSTER,
        processes: int = 1,
        threads: int = 5,
        options: Sequence[str] = (),
    ) -> None:
        if environment.get("LOG_LEVEL", "INFO").upper() in TOO_QUIET:
            raise ValueError("LOG_LEVEL must be INFO or DEBUG: the log tells when workers are ready")
        super().__init__(
            directory, environment=environment, working_directory=working_directory, roster=roster
        )
        self.processes = processes
        self.threads = threads
        self._options = list(options)

    def _command(self) -> Sequence[str | Path]:
        size = ["--processes", str(self.processes), "--threads", str(self.threads)]
        return [_program("dramatiq"), self._roster, *size, *self._options]

    def _is_ready(self) -> bool:
        return self._ready_count() >= self.processes

    def terminate(self) -> None:
        """SIGTERM to the master, without waiting: see `wait`."""
        self.send_signal(signal.SIGTERM)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers, without the master's, in the order of their start."""
        return _children(self.pid)[: self.processes]

    def kill_worker(self, pid: int) -> None:
        """SIGKILL one worker. Dramatiq's master then ends the others and exits with an error."""
        os.kill(pid, signal.SIGKILL)


class Scheduler(_LoggedServer):
    """``periodiq pipeline.actors``. Its times are UTC, whatever the machine's zone is."""

    name: ClassVar[str] = "scheduler"
    ready_text: ClassVar[str] = "Registered periodic actors"

    def _environment(self) -> Mapping[str, str]:
        return {**self._variables, "TZ": "UTC"}

    def _command(self) -> Sequence[str | Path]:
        return [_program("periodiq"), self._roster]


def _program(name: str) -> Path:
    """The program that was installed beside this Python."""
    return Path(sys.executable).with_name(name)


def _children(pid: int) -> list[int]:
    """The direct children of a process: from Linux's /proc, elsewhere from pgrep."""
    tasks = Path(f"/proc/{pid}/task")
    if tasks.is_dir():
        lists = [(task / "children").read_text() for task in tasks.iterdir()]
        return [int(child) for children in lists for child in children.split()]
    asked = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)  # noqa: S607
    return [int(child) for child in asked.stdout.split()]

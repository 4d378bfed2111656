"""What all embedded servers have in common: start, wait until it answers, stop, kill, restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pipeline.embedded.guard import GuardedProcess
from pipeline.errors import PipelineError

#: How often a starting server is asked whether it is ready.
READY_POLL_SECONDS = 0.02
#: How much of a log goes into an error message.
LOG_TAIL_LINES = 20


class ServerFailed(PipelineError):
    """An embedded server did not start; the message ends with the tail of its log."""


class Server(ABC):
    """A guarded process with a folder for its data and its log. Start it, or use ``with``.

    Starting again after `stop` or `kill` keeps the data, the address and the log.
    """

    #: Names the log file and stands in messages.
    name: ClassVar[str]
    #: What asks the server to end without losing anything.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: The longest wait for the first answer.
    start_timeout_seconds: ClassVar[float] = 60.0
    #: How long it may take to end by itself.
    stop_timeout_seconds: ClassVar[float] = 10.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_path = directory / f"{self.name}.log"
        self._process: GuardedProcess | None = None

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it answers now. Asked again and again; must not block for long."""

    def _environment(self) -> Mapping[str, str] | None:
        """The server's whole environment; None: the owner's."""
        return None

    def _working_directory(self) -> Path:
        """Where it runs."""
        return self.directory

    def _prepare(self) -> None:
        """What must be done before each start."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> Self:
        """Start it and return when it answers. Raises `ServerFailed`."""
        if self._process is not None:
            raise ServerFailed(f"{self.name} is running already")
        self._prepare()
        try:
            self._process = GuardedProcess.start(
                self._command(),
                log=self.log_path,
                env=self._environment(),
                cwd=self._working_directory(),
                stop_signal=self.stop_signal,
            )
        except OSError as exc:
            raise ServerFailed(f"{self.name} can not be started: {exc}") from exc
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self._is_ready():
            if (code := self.poll()) is not None:
                raise ServerFailed(f"{self.name} ended with exit code {code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                seconds = self.start_timeout_seconds
                raise ServerFailed(f"{self.name} does not answer after {seconds:g} s:\n{self.log_tail()}")
            time.sleep(READY_POLL_SECONDS)

    def stop(self, timeout_seconds: float | None = None) -> int | None:
        """Ask it to end, by force after the timeout. Returns the exit code; None: did not run."""
        process, self._process = self._process, None
        if process is None:
            return None
        return process.stop(self.stop_timeout_seconds if timeout_seconds is None else timeout_seconds)

    def kill(self) -> None:
        """SIGKILL all of its processes and wait until they are gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to its first process only, and return at once. See `wait`."""
        os.kill(self.pid, number)

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it has ended by itself. Returns the exit code; raises `ServerFailed`."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as exc:
            raise ServerFailed(
                f"{self.name} still runs after {timeout_seconds:g} s:\n{self.log_tail()}"
            ) from exc

    def restart(self) -> Self:
        """Stop it if it runs, and start it with the same data at the same address."""
        self.stop()
        return self.start()

    @property
    def pid(self) -> int:
        """The id of its first process and of its process group. Raises `ServerFailed`."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code if it was started and has ended by itself, else None."""
        return None if self._process is None else self._process.poll()

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            text = self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_free(port: int) -> bool:
    """Whether nothing listens on that TCP port of the loopback address at the moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A TCP port on the loopback address that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Starts a process again whenever it has ended, as systemd or a container runtime would."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Self

from pipeline.embedded.server import ServerFailed
from pipeline.embedded.workers import Scheduler, Workers

#: How often it looks.
POLL_SECONDS = 0.1


class Supervised:
    """Workers or a scheduler that are never away for long; ``with``: until its end, then they are killed."""

    def __init__(self, server: Workers | Scheduler) -> None:
        self.server = server
        self.restarts = 0
        #: What a start has said that did not succeed: its servers may have been away.
        self.refusals: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self.server.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.server.kill()

    def _watch(self) -> None:
        running = True
        while not self._ended.wait(POLL_SECONDS):
            if running and self.server.poll() is None:
                continue
            self.server.stop()
            running = self._start()

    def _start(self) -> bool:
        try:
            self.server.start()
        except ServerFailed as failure:
            self.refusals.append(str(failure))
            return False
        self.restarts += 1
        return True

    def signal_master(self, number: signal.Signals) -> bool:
        """Send a signal to its first process; False when it is not there just now."""
        try:
            self.server.send_signal(number)
        except (ServerFailed, ProcessLookupError):
            return False
        return True

    def worker_pids(self) -> list[int]:
        """The workers that are there just now."""
        if not isinstance(self.server, Workers):
            return []
        try:
            return self.server.worker_pids()
        except (ServerFailed, FileNotFoundError, ProcessLookupError):
            return []


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

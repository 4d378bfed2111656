"""Threads and processes that begin at the same moment."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: Tells that the imports are done, and waits for the line that all get at once.
START = "import sys; print('ready', flush=True); sys.stdin.readline()\n"


def in_threads(count: int, work: Callable[[int], T]) -> list[T | Exception]:
    """``work(0)``, ``work(1)``, … at once; what they return, or raise, in order."""
    from pipeline.database import close_connection

    barrier = threading.Barrier(count, timeout=30)

    def run(number: int) -> T | Exception:
        barrier.wait()
        try:
            return work(number)
        except Exception as exc:  # noqa: BLE001 - the test judges it
            return exc
        finally:
            close_connection()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def in_processes(
    imports: str, code: str, arguments: Sequence[Sequence[object]], environment: Mapping[str, str]
) -> list[str]:
    """Run ``imports``, wait until all processes have, then ``code``; their outputs, in order.

    Each element of ``arguments`` is a process, which finds it in ``sys.argv[1:]``.
    """
    command = [sys.executable, "-c", imports + "\n" + START + code]
    processes = [
        subprocess.Popen(
            [*command, *map(str, own)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in arguments
    ]
    try:
        return _race(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _race(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=100) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]

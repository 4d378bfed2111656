"""Waiting for conditions that may not come, and doing the same from many threads at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.database import close_connection
from tests.chaos.site import ChaosSite

T = TypeVar("T")

#: The longest wait for something that may not come, such as a transaction when all is idle.
PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05

Make = Callable[[ChaosSite, random.Random], str]


def waited(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it has come true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def last(seconds: float) -> None:
    """Let a fault last for so long."""
    end = time.monotonic() + seconds
    waited(lambda: time.monotonic() > end, seconds=seconds + 60)


def at_once(times: int, action: Callable[[], T]) -> list[T]:
    """Do it in so many threads; what each has returned."""

    def alone() -> T:
        try:
            return action()
        finally:
            close_connection()

    with ThreadPoolExecutor(times) as pool:
        return [doing.result() for doing in [pool.submit(alone) for _ in range(times)]]

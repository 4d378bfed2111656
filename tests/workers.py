"""What tests do to workers, and what they ask Redis about them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from pipeline.embedded.workers import Workers
from tests.waiting import until


@contextmanager
def stopped(workers: Workers) -> Iterator[None]:
    """Let the worker processes stand still."""
    pids = workers.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def as_supervisor(
    workers: Workers, condition: Callable[[], bool], *, on_death: Callable[[], None] = lambda: None
) -> int:
    """Start workers again whenever they have ended, until the condition holds; how often that was."""
    starts = 0

    def holds() -> bool:
        nonlocal starts
        if workers.poll() is not None:
            starts += 1
            on_death()
            workers.stop()
            workers.start()
        return condition()

    until(holds, seconds=90, what="the condition")
    return starts


def nothing_is_unacked(redis_url: str) -> Callable[[], bool]:
    """Whether no worker, dead or alive, has a message; to be waited for."""

    def is_so() -> bool:
        with redis.Redis.from_url(redis_url) as connection:
            return not list(connection.scan_iter("dramatiq:__acks__.*"))

    return is_so

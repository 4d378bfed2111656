"""Everything that Redis is asked about the limiter, by its own clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import redis


@dataclass
class Limiter:
    """What was seen of the limiter."""

    calls: int = 0
    #: When the slots begin that were taken, in seconds by Redis's clock.
    slots: list[float] = field(default_factory=list)


@contextmanager
def watched(redis_url: str) -> Iterator[Limiter]:
    """Look at everything that Redis is asked about the limiter."""
    seen, watching = Limiter(), threading.Event()

    def watch() -> None:
        with redis.Redis.from_url(redis_url) as client, client.monitor() as monitor:
            watching.set()
            for command in monitor.listen():
                words = command["command"].split()
                if words[0] == "ECHO":
                    return
                if any(word.startswith("pipeline:rate-limit:") for word in words):
                    seen.calls += words[0].startswith("EVAL")
                    seen.slots += [int(words[2]) / 1_000_000] if words[0] == "LPUSH" else []

    watcher = threading.Thread(target=watch)
    watcher.start()
    watching.wait()
    try:
        yield seen
    finally:
        with redis.Redis.from_url(redis_url) as client:
            client.echo("over")
        watcher.join()

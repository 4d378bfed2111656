"""A broker that keeps messages until the model delivers, doubles or loses them, and a Redis to match."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq

from pipeline.actors import broker as pipeline_broker
from tests.model.faults import Boundaries


class Broker(dramatiq.Broker):
    """Messages in no order; a delay is not waited for, as the row knows when it is due."""

    def __init__(self, boundaries: Boundaries) -> None:
        super().__init__(middleware=[])
        self._boundaries = boundaries
        self.messages: list[dramatiq.Message[Any]] = []

    def get_actor(self, actor_name: str) -> dramatiq.Actor[Any, Any]:
        return pipeline_broker.get_actor(actor_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        del delay
        self._boundaries.passed("message")
        self.messages.append(message)
        return message

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        """In place of `pipeline.redis_client.connect`."""
        yield Redis(self)


class Redis:
    """What sweeps and events ask of Redis."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def get(self, name: str) -> bytes:
        return name.encode()

    def info(self, section: str) -> dict[str, str]:
        return {"run_id": section}

    def zrangebyscore(self, *_: object) -> list[bytes]:
        return []

    @contextmanager
    def pipeline(self, *, transaction: bool) -> Iterator[Redis]:
        del transaction
        self._lengths: list[int] = []
        yield self

    def llen(self, key: str) -> None:
        queue = key.removeprefix("dramatiq:")
        self._lengths.append(sum(message.queue_name == queue for message in self._broker.messages))

    def register_script(self, script: str) -> Callable[..., None]:
        """That of the events, to which nobody listens."""
        return lambda **_: None

    def execute(self) -> list[int]:
        return self._lengths

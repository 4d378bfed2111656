"""Promise: middleware hears each signal that it listens to, as with Dramatiq's own broker."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import MiddlewareError

from pipeline.redis_broker import DelayingRedisBroker


class Silent(dramatiq.Middleware):
    """Listens to nothing."""


class Heard(dramatiq.Middleware):
    """Notes what it hears, and raises what it is given."""

    def __init__(self, name: str, heard: list[str], error: Exception | None = None) -> None:
        self.name, self.heard, self.error = name, heard, error

    def before_enqueue(self, *_: Any) -> None:
        self.heard.append(f"before {self.name}")
        if self.error:
            raise self.error

    def after_enqueue(self, *_: Any) -> None:
        self.heard.append(f"after {self.name}")
        if self.error:
            raise self.error


@pytest.fixture
def broker() -> DelayingRedisBroker:
    """Without a server: nothing is sent."""
    return DelayingRedisBroker(client=redis.Redis(port=9), middleware=[])


def both(broker: DelayingRedisBroker) -> None:
    """What Dramatiq emits around a message that is sent."""
    broker.emit_before("enqueue", None, None)
    broker.emit_after("enqueue", None, None)


def test_those_who_listen(broker: DelayingRedisBroker) -> None:
    """In their order, and backwards afterwards; also who came after the first signal."""
    heard: list[str] = []
    broker.add_middleware(Silent())
    broker.add_middleware(Heard("a", heard))
    both(broker)
    broker.add_middleware(Heard("b", heard))
    both(broker)
    assert heard == ["before a", "after a", "before a", "before b", "after b", "after a"]


def test_a_method_of_the_object(broker: DelayingRedisBroker) -> None:
    """As tests and Prometheus exporters set one: it is heard like a class's."""
    heard: list[str] = []
    silent: Any = Silent()
    silent.after_enqueue = lambda *_: heard.append("own")
    broker.add_middleware(silent)
    both(broker)
    assert heard == ["own"]


def test_what_fails_keeps_nobody(broker: DelayingRedisBroker, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next is called; a MiddlewareError is for the caller."""
    heard: list[str] = []
    broker.add_middleware(Heard("a", heard, ValueError("no")))
    broker.add_middleware(Heard("b", heard))
    both(broker)
    assert heard == ["before a", "before b", "after b", "after a"]
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 2
    broker.add_middleware(Heard("c", heard, MiddlewareError("stop")))
    with pytest.raises(MiddlewareError):
        broker.emit_before("enqueue", None, None)

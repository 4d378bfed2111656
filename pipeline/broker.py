"""The broker: Dramatiq on Redis, connected at first use, with the pipeline's middleware.

Importing this costs little, so that an issuer's API can: redis-py, peewee and pydantic
(more than a second together) are loaded by the first message that is sent or worked on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.broker import Consumer
from dramatiq.common import dq_name
from dramatiq.middleware import CurrentMessage, Middleware, TimeLimit
from dramatiq.results import Results
from periodiq import PeriodiqMiddleware

from pipeline import current
from pipeline.middleware.logs import LogMiddleware
from pipeline.middleware.metrics import Metrics
from pipeline.middleware.process import Process
from pipeline.middleware.rate_limit import RateLimit
from pipeline.middleware.retries import AttemptRetries
from pipeline.middleware.shapes import Shapes
from pipeline.middleware.ticker import Ticker
from pipeline.queues import HEARTBEAT_TIMEOUT_MS, URGENT
from pipeline.results import JobResults

if TYPE_CHECKING:
    from pipeline.redis_broker import DelayingRedisBroker

#: Look for dead workers at each fetch: the default takes ten minutes on an idle system.
MAINTENANCE_CHANCE = 1_000_000

#: Milliseconds that a message may take; far above all time-outs of the node and the database.
TIME_LIMIT_MS = 300_000


class PipelineBroker(dramatiq.Broker):
    """Stands for a `DelayingRedisBroker`, which it makes when the first message is sent or fetched."""

    def __init__(self, middleware: Iterable[Middleware]) -> None:
        super().__init__(middleware=list(middleware))
        self.queues: set[str] = set()
        self._real: DelayingRedisBroker | None = None
        self._making = threading.Lock()

    @property
    def redis(self) -> DelayingRedisBroker:
        """The real one; it shares actors, queues and middleware with this.

        One for all threads: what it has fetched is known by its id.
        """
        with self._making:
            if self._real is None:
                self._real = self._make()
            return self._real

    def _make(self) -> DelayingRedisBroker:
        from pipeline.redis_broker import DelayingRedisBroker
        from pipeline.redis_client import connect

        broker = DelayingRedisBroker(
            client=connect(),
            middleware=[],
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
            maintenance_chance=MAINTENANCE_CHANCE,
        )
        broker.middleware, broker.actors = self.middleware, self.actors
        broker.queues, broker.delay_queues = self.queues, self.delay_queues
        return broker

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue and its delay queue known."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)
            self.delay_queues.add(dq_name(queue_name))
            self.emit_after("declare_delay_queue", dq_name(queue_name))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer of ``queue_name``; ``timeout`` in milliseconds."""
        from pipeline.consumer import Consumer as DefensiveConsumer

        return DefensiveConsumer(self.redis, queue_name, prefetch, timeout)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Hand a message to Redis, ``delay`` milliseconds from now."""
        return self.redis.enqueue(message, delay=delay)

    def get_declared_queues(self) -> set[str]:
        """The names of all queues."""
        return set(self.queues)

    def flush_all(self) -> None:
        """Drop all messages."""
        self.redis.flush_all()

    def close(self) -> None:
        """Close the connections to Redis; the next message opens new ones."""
        with self._making:
            real, self._real = self._real, None
        if real is not None:
            real.close()


def make_middleware() -> list[Middleware]:
    """The middleware, in order; after-hooks run from the last to the first."""
    return [
        Process(),
        Shapes(),
        RateLimit(),
        TimeLimit(time_limit=TIME_LIMIT_MS),
        CurrentMessage(),
        AttemptRetries(),
        Results(backend=JobResults()),
        PeriodiqMiddleware(),
        Metrics(),
        Ticker(),
        LogMiddleware(),
    ]


broker = PipelineBroker(make_middleware())
broker.declare_queue(URGENT)
current.use(broker)
if dramatiq.broker.global_broker is None:  # a program with actors of its own keeps its broker
    dramatiq.set_broker(broker)

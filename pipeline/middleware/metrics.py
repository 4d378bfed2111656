"""Delivers what a worker process has counted, every two seconds and at its end; notes the scheduler.

Commands and issuers' programs deliver nothing: what they count is not the pipeline's work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import dramatiq
from dramatiq.worker import Worker

logger = logging.getLogger(__name__)

#: What a process that is killed has counted in vain is at most of so many seconds.
INTERVAL_SECONDS = 2.0

#: The option that only the scheduler's messages have.
SCHEDULED = "scheduled_at"


class Metrics(dramatiq.Middleware):
    """A thread of its own: a sweep that waits for its node keeps no metrics waiting."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Start delivering."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """No message is worked on any more: deliver the rest."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Note that the scheduler's messages arrive; the ticker runs the same sweeps without any."""
        if SCHEDULED in message.options:
            _note_scheduler()

    def _run(self) -> None:
        from pipeline.metrics.shared import Delivery
        from pipeline.redis_client import connect

        with connect() as client:
            delivery = Delivery(client)
            while not self._stopping.wait(INTERVAL_SECONDS):
                _try(delivery.deliver)
            _try(delivery.leave)


def _try(deliver: Callable[[], None]) -> None:
    """What can not be delivered now is kept for the next time."""
    from redis import RedisError

    try:
        deliver()
    except RedisError as exc:
        logger.warning("metrics are not delivered yet: %s", type(exc).__name__)


def _note_scheduler() -> None:
    from pipeline.errors import DatabaseUnavailable
    from pipeline.ledger import control

    try:
        control.note_time(control.SCHEDULER_SEEN)
    except DatabaseUnavailable as exc:
        logger.warning("the scheduler's message is not noted: %s", exc.message)

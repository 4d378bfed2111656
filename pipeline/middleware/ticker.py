"""A thread in every worker process that runs the sweeps every two seconds, if it has the lease.

It calls them directly: the sweeps go on while Redis is away, and cost no messages.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.worker import Worker

from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0

#: A holder that died blocks the sweeps for no longer.
LEASE_SECONDS = 6.0

SWEEPS = ("settle", "reconcile")


class Ticker(dramatiq.Middleware):
    """Starts with the worker and stops with it."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Start ticking."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(broker,), name="ticker", daemon=True)
        self._thread.start()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Stop ticking; a sweep under way ends first."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self, broker: dramatiq.Broker) -> None:
        from pipeline.database import close_connection
        from pipeline.ledger.leases import new_holder, release

        holder = new_holder()
        while not self._stopping.wait(INTERVAL_SECONDS):
            self._tick(broker, holder)
        try:
            release("ticker", holder)
        except Exception as exc:  # noqa: BLE001 - the lease ends by itself
            logger.warning("the ticker's lease was not given back: %s", type(exc).__name__)
        close_connection()

    def _tick(self, broker: dramatiq.Broker, holder: str) -> None:
        from pipeline.ledger.leases import acquire

        if self._succeeds("lease", lambda: acquire("ticker", holder, seconds=LEASE_SECONDS)):
            for name in SWEEPS:  # one that fails does not keep the other
                self._succeeds(name, broker.get_actor(name).fn)

    @staticmethod
    def _succeeds(name: str, sweep: Callable[[], Any]) -> Any:
        """What ``sweep`` returns; False, and a line in the log, when it fails: the next one is due soon."""
        try:
            return sweep()
        except Exception as exc:
            # A stranger's text may hold anything; ours have no secrets.
            text = exc.message if isinstance(exc, PipelineError) else type(exc).__name__
            logger.warning("%s failed: %s", name, text, exc_info=logger.isEnabledFor(logging.DEBUG))
            return False

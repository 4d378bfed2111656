"""The rate limit of chain writes, over all processes.

A message of a rate-limited actor is a permit, not an order, so one thread of a process waits
for a slot and the others go on: who finds the turn taken leaves, and who gives it back looks
once more whether there is work. Waiting costs no attempt. Without Redis nothing is granted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.middleware import SkipMessage
from dramatiq.worker import Worker

from pipeline import current

if TYPE_CHECKING:
    from pipeline.limiter import SlidingWindowRateLimiter

logger = logging.getLogger(__name__)

#: A slot is taken if it is not further away. After so many seconds who got none looks whether one
#: is still needed, and asks again.
LONGEST_WAIT_SECONDS = 1.0

#: Seconds after its begin at which a slot is over: this process was stopped, or starved.
LATE_SECONDS = 0.1

#: Seconds for which a message waits for a slot; far below the time limit.
PATIENCE_SECONDS = 60.0


class RateLimit(dramatiq.Middleware):
    """Actors with ``rate_limit_when=callable`` run one at a time in a process, while it says True.

    They take their slots with `wait_for_slots`, once all else is ready.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._mine = threading.local()
        self._stopping = threading.Event()

    @property
    def actor_options(self) -> set[str]:
        """The option that makes an actor rate limited: whether there is something to do."""
        return {"rate_limit_when"}

    @property
    def limiter(self) -> SlidingWindowRateLimiter:
        """The limiter, on the backend that Dramatiq has for Redis."""
        from pipeline.limiter import chain_write_limiter

        return chain_write_limiter()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Wake who waits: the batch stays ready for the next worker."""
        self._stopping.set()

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Take the turn, or leave the work to the thread that has it."""
        if self._condition(broker, message) is None:
            return
        if self._stopping.is_set() or not self._turn.acquire(blocking=False):
            raise SkipMessage("another thread has the turn")
        self._mine.turn = True

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Give the turn back, and see to it that what is ready has a message."""
        if not getattr(self._mine, "turn", False):
            return
        self._mine.turn = False
        self._turn.release()
        condition = self._condition(broker, message)
        if condition is not None and not self._stopping.is_set() and condition():
            broker.get_actor(message.actor_name).send()

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """A later middleware has skipped the message: give the turn back."""
        if getattr(self._mine, "turn", False):
            self._mine.turn = False
            self._turn.release()

    def wait_for_slots(self, wanted: int, needed: Callable[[], bool]) -> int:
        """Wait until the limiter grants a slot, for something that is needed now; at most ``wanted`` at once.

        Returns how many. 0 when nothing is needed any more, at shutdown, or after `PATIENCE_SECONDS`:
        what is ready has another message then.
        """
        begin = time.monotonic()
        deadline = begin + PATIENCE_SECONDS
        while not self._stopping.is_set() and time.monotonic() < deadline:
            slot = self.limiter.take(wanted, patience_seconds=LONGEST_WAIT_SECONDS)
            late_seconds = self._wait(slot.seconds if slot.taken else LONGEST_WAIT_SECONDS)
            if slot.taken and late_seconds < LATE_SECONDS and not self._stopping.is_set():
                _count(slot.taken, time.monotonic() - begin)
                return slot.taken
            if not needed():
                return 0
        return 0

    def _wait(self, seconds: float) -> float:
        """Wait, if not for the end of the process; returns by how much it took longer."""
        begin = time.monotonic()
        if seconds:
            self._stopping.wait(seconds)
        return time.monotonic() - begin - seconds

    @staticmethod
    def _condition(broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> Callable[[], bool] | None:
        actor = broker.actors.get(message.actor_name)
        condition: Callable[[], bool] | None = actor.options.get("rate_limit_when") if actor else None
        return condition


def _count(slots: int, waited_seconds: float) -> None:
    from pipeline.metrics import catalogue, recorder

    recorder.add(catalogue.LIMITER_SLOTS, slots)
    recorder.observe(catalogue.LIMITER_WAIT, [waited_seconds] * slots)


def wait_for_slots(wanted: int, needed: Callable[[], bool]) -> int:
    """`RateLimit.wait_for_slots` of the broker in use; all at once where it has no such middleware."""
    for middleware in current.broker().middleware:
        if isinstance(middleware, RateLimit):
            return middleware.wait_for_slots(wanted, needed)
    return wanted

"""The roster of workers whose clock is ``CLOCK_OFFSET`` seconds off, with one more actor.

Their Python has that clock; Redis, SQL and the chain have the machine's.
"""

from __future__ import annotations

import os
import time

_right, _offset = time.time, float(os.environ["CLOCK_OFFSET"])
time.time = lambda: _right() + _offset

import dramatiq  # noqa: E402

from pipeline.actors import *  # noqa: E402, F403
from pipeline.broker import broker  # noqa: E402
from pipeline.redis_client import connect  # noqa: E402

#: Where `probe` leaves how long it waited.
WAITS = "test:waits"


@dramatiq.actor(broker=broker, queue_name="probes")
def probe(sent_at: float) -> None:
    """Note the seconds between ``sent_at`` and now, by the clock that counts since the machine's boot."""
    with connect() as client:
        client.rpush(WAITS, time.monotonic() - sent_at)

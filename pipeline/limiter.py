"""An exact sliding window on Dramatiq's Redis backend.

Dramatiq's `WindowRateLimiter` counts in whole seconds of the *client's* clock: at a boundary
it grants twice the limit at once. This one keeps the times of the last slots, takes Redis's
clock, and spreads the slots. One call takes the next slot, also one that is a moment away: whoever
waits does not ask again and again, however many wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dramatiq.rate_limits import WindowRateLimiter
from dramatiq.rate_limits.backends.redis import RedisBackend

from pipeline.redis_client import connect
from pipeline.settings import get_settings

#: Microseconds. KEYS: the list of the slots' times, newest first. ARGV: limit, window, spacing, and how
#: far away a slot may be that is taken. Returns whether it was, and in how long it is.
#: A millisecond beyond the window, so that an observer's clock counts no more than ours.
TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local limit, window, spacing = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local patience = tonumber(ARGV[4])
local newest = tonumber(redis.call('LINDEX', KEYS[1], 0) or 0)
local oldest = tonumber(redis.call('LINDEX', KEYS[1], limit - 1) or 0)
local wait = math.max(0, newest + spacing - now, oldest == 0 and 0 or oldest + window + 1000 - now)
if wait > patience then
    return {0, string.format('%.0f', wait)}
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now + wait))
redis.call('LTRIM', KEYS[1], 0, limit - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil((wait + window * 2) / 1000))
return {1, string.format('%.0f', wait)}
"""

#: Slots keep at least this part of window / limit between them; what is left of it makes up
#: for those that were not asked for in time, so that the rate is reached.
SPREAD = 0.8


@dataclass(frozen=True, slots=True)
class Slot:
    """``taken``: it is ours, and begins in ``seconds``. Otherwise the next one is so far away."""

    taken: bool
    seconds: float


class SlidingWindowRateLimiter(WindowRateLimiter):
    """At most ``limit`` slots in any interval of ``window`` seconds by Redis's clock."""

    def __init__(self, backend: RedisBackend, key: str, *, limit: int, window: int) -> None:
        super().__init__(backend, key, limit=limit, window=window)  # type: ignore[no-untyped-call]
        self._script: Any = backend.client.register_script(TAKE)

    def take(self, *, patience_seconds: float = 0) -> Slot:
        """Take the next slot, if it is not further away than that.

        Raises `redis.RedisError`: without Redis nothing is granted.
        """
        window_us = self.window * 1_000_000
        spacing_us = int(window_us / self.limit * SPREAD)
        arguments = [self.limit, window_us, spacing_us, int(patience_seconds * 1_000_000)]
        taken, wait_us = self._script(keys=[self.key], args=arguments)
        return Slot(bool(taken), float(wait_us) / 1_000_000)

    def taken(self) -> int:
        """How many slots begin in the window that ends now. Raises `redis.RedisError`."""
        client = self.backend.client
        seconds, micros = client.time()
        times: Any = client.lrange(self.key, 0, -1)
        since = (seconds - self.window) * 1_000_000 + micros
        return sum(int(time) > since for time in times)

    def _acquire(self) -> bool:
        return self.take().taken


def chain_write_limiter() -> SlidingWindowRateLimiter:
    """The limiter of chain writes: ``RATE_LIMIT_MAX`` in ``RATE_LIMIT_WINDOW_SECONDS``."""
    settings = get_settings()
    return SlidingWindowRateLimiter(
        RedisBackend(client=connect()),
        "pipeline:rate-limit:chain-write",
        limit=settings.rate_limit_max,
        window=settings.rate_limit_window_seconds,
    )

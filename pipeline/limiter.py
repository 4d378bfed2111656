"""An exact sliding window on Dramatiq's Redis backend.

Dramatiq's `WindowRateLimiter` counts in whole seconds of the *client's* clock: at a boundary
it grants twice the limit at once. This one keeps the times of the last slots, takes Redis's
clock, and spreads the slots. One call takes the next slot, also one that is a moment away: whoever
waits does not ask again and again, however many wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dramatiq.rate_limits import WindowRateLimiter
from dramatiq.rate_limits.backends.redis import RedisBackend

from pipeline.redis_client import connect
from pipeline.redis_scripts import Scripts
from pipeline.settings import get_settings

#: Microseconds. KEYS: the list of the slots' times, newest first. ARGV: limit, window, spacing, how
#: far away a slot may be that is taken, and how many are wanted. Returns how many were taken, and in how
#: long they are: as many as there are now, or the next one alone.
#: A millisecond beyond the window, so that an observer's clock counts no more than ours.
TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local limit, window, spacing = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local patience, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local newest = tonumber(redis.call('LINDEX', KEYS[1], 0) or 0)
-- Those that have to be out of the window before so many more may begin, the newest first.
local before = redis.call('LRANGE', KEYS[1], limit - wanted, limit - 1)
local function wait_for(count)
    local oldest = tonumber(before[wanted - count + 1] or 0)
    return math.max(0, newest + spacing * count - now, oldest == 0 and 0 or oldest + window + 1000 - now)
end
local count = wanted
while count > 1 and wait_for(count) > 0 do
    count = count - 1
end
local wait = wait_for(count)
if wait > patience then
    return {0, string.format('%.0f', wait)}
end
local at = string.format('%.0f', now + wait)
for _ = 1, count do
    redis.call('LPUSH', KEYS[1], at)
end
redis.call('LTRIM', KEYS[1], 0, limit - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil((wait + window * 2) / 1000))
return {count, string.format('%.0f', wait)}
"""

#: Slots keep at least this part of window / limit between them; what is left of it makes up
#: for those that were not asked for in time, so that the rate is reached.
SPREAD = 0.8

#: Slots that begin at once are no more than would begin one by one within so many seconds: who counts
#: at the node is not to see the windows' edges.
TOGETHER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Slot:
    """``taken``: so many are ours, and begin in ``seconds``. Of none the next one is so far away."""

    taken: int
    seconds: float


class SlidingWindowRateLimiter(WindowRateLimiter):
    """At most ``limit`` slots in any interval of ``window`` seconds by Redis's clock."""

    def __init__(self, backend: RedisBackend, key: str, *, limit: int, window: int) -> None:
        super().__init__(backend, key, limit=limit, window=window)  # type: ignore[no-untyped-call]
        self._script = Scripts(backend.client).register(TAKE)

    def take(self, wanted: int = 1, *, patience_seconds: float = 0) -> Slot:
        """Take as many slots as there are now, or the next one, if it is not further away than that.

        Raises `redis.RedisError`: without Redis nothing is granted.
        """
        together = max(1, int(self.limit / self.window * TOGETHER_SECONDS))
        window_us = self.window * 1_000_000
        spacing_us = int(window_us / self.limit * SPREAD)
        wanted = min(wanted, together)
        arguments = [self.limit, window_us, spacing_us, int(patience_seconds * 1_000_000), wanted]
        taken, wait_us = self._script(keys=[self.key], args=arguments)
        return Slot(int(taken), float(wait_us) / 1_000_000)

    def taken(self) -> int:
        """How many slots begin in the window that ends now. Raises `redis.RedisError`."""
        client = self.backend.client
        seconds, micros = client.time()
        times: Any = client.lrange(self.key, 0, -1)
        since = (seconds - self.window) * 1_000_000 + micros
        return sum(int(time) > since for time in times)

    def _acquire(self) -> bool:
        return bool(self.take().taken)


def chain_write_limiter() -> SlidingWindowRateLimiter:
    """The limiter of chain writes: ``RATE_LIMIT_MAX`` in ``RATE_LIMIT_WINDOW_SECONDS``."""
    settings = get_settings()
    return _limiter(settings.redis_dsn, settings.rate_limit_max, settings.rate_limit_window_seconds)


@lru_cache(maxsize=1)
def _limiter(_dsn: str, limit: int, window: int) -> SlidingWindowRateLimiter:
    """One for a process, as long as its settings are the same: it keeps its connections."""
    backend = RedisBackend(client=connect())
    return SlidingWindowRateLimiter(backend, "pipeline:rate-limit:chain-write", limit=limit, window=window)

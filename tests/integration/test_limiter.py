"""Promise: never more grants than the limit in any window, by Redis's clock, over all processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
import redis
from dramatiq.rate_limits.backends.redis import RedisBackend

from pipeline.limiter import SlidingWindowRateLimiter

TAKE_MANY = """
import sys, time
import redis
from dramatiq.rate_limits.backends.redis import RedisBackend
from pipeline.limiter import SlidingWindowRateLimiter
time.time = lambda: 0.0  # a clock that is far off
limiter = SlidingWindowRateLimiter(
    RedisBackend(client=redis.Redis.from_url(sys.argv[1])), "limit", limit=20, window=1
)
granted = 0
deadline = time.monotonic() + 3
while time.monotonic() < deadline:
    wait = limiter.take()
    granted += wait == 0
    time.sleep(wait)
print(granted)
"""


def limiter(url: str, limit: int) -> SlidingWindowRateLimiter:
    """A limiter of ``limit`` a second."""
    return SlidingWindowRateLimiter(
        RedisBackend(client=redis.Redis.from_url(url)), "limit", limit=limit, window=1
    )


def most_in_a_window(times: list[float]) -> int:
    """The most events in any half-open interval of one second."""
    return max(sum(1 for other in times if 0 <= other - one < 1) for one in times)


def granted_times(url: str, limit: int, threads: int, seconds: float) -> list[float]:
    """When grants were given, by Redis's clock, to ``threads`` that ask without pause."""
    stop = time.monotonic() + seconds

    def ask() -> None:
        mine = limiter(url, limit)
        while time.monotonic() < stop:
            mine.take()

    def tell_when_over() -> None:
        for asker in askers:
            asker.join()
        with redis.Redis.from_url(url) as client:
            client.echo("over")

    askers = [threading.Thread(target=ask) for _ in range(threads)]
    ender = threading.Thread(target=tell_when_over)
    times: list[float] = []
    with redis.Redis.from_url(url).monitor() as monitor:
        for asker in [*askers, ender]:
            asker.start()
        for command in monitor.listen():
            if command["command"].startswith("LPUSH"):
                times.append(command["time"])
            if command["command"].startswith("ECHO"):
                break
    ender.join()
    return times


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_no_window_has_more(redis_url: str, limit: int) -> None:
    """Eight threads that press as hard as they can."""
    times = granted_times(redis_url, limit, threads=8, seconds=3)
    assert most_in_a_window(times) <= limit
    assert len(times) >= 2 * limit


def test_grants_are_spread(redis_url: str) -> None:
    """No burst: at ten a second no two are nearer than 80 ms."""
    times = granted_times(redis_url, 10, threads=4, seconds=2)
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.079


def test_processes_share_the_limit_whatever_their_clocks_say(redis_url: str) -> None:
    """Three processes for three seconds at 20 a second."""
    command = [sys.executable, "-c", TAKE_MANY, redis_url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    granted = sum(int(process.communicate(timeout=30)[0]) for process in running)
    assert 40 <= granted <= 100


def test_without_redis_nothing_is_granted() -> None:
    """It fails closed."""
    with pytest.raises(redis.ConnectionError):
        limiter("redis://127.0.0.1:1", 10).take()

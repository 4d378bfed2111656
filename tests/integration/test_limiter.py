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

from pipeline.limiter import SlidingWindowRateLimiter, Slot

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
    slot = limiter.take(patience_seconds=1)
    granted += slot.taken
    time.sleep(slot.seconds)
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


def granted_times(
    url: str, limit: int, threads: int, seconds: float, patience_seconds: float = 0, wanted: int = 1
) -> list[float]:
    """When the slots begin, by Redis's clock, of ``threads`` that ask without pause."""
    stop = time.monotonic() + seconds

    def ask() -> None:
        mine = limiter(url, limit)
        while time.monotonic() < stop:
            mine.take(wanted, patience_seconds=patience_seconds)

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
                times.append(int(command["command"].split()[2]) / 1_000_000)
            if command["command"].startswith("ECHO"):
                break
    ender.join()
    return times


@pytest.mark.parametrize("patience_seconds", [0, 1])
@pytest.mark.parametrize("limit", [1, 10, 50])
def test_no_window_has_more(redis_url: str, limit: int, patience_seconds: float) -> None:
    """Eight threads that press as hard as they can, for slots that are there or will be."""
    times = granted_times(redis_url, limit, threads=8, seconds=3, patience_seconds=patience_seconds)
    assert most_in_a_window(times) <= limit
    assert len(times) >= 2 * limit


@pytest.mark.parametrize("patience_seconds", [0, 1])
@pytest.mark.parametrize("wanted", [2, 7, 100])
def test_no_window_has_more_of_several_at_once(redis_url: str, wanted: int, patience_seconds: float) -> None:
    """Eight threads that each want several slots in one call, of a limit of two hundred."""
    times = granted_times(
        redis_url, 200, threads=8, seconds=3, patience_seconds=patience_seconds, wanted=wanted
    )
    assert most_in_a_window(times) <= 200
    assert len(times) >= 400
    together = max(times.count(one) for one in set(times))
    assert together <= min(wanted, 10)


def test_as_many_at_once_as_there_are(redis_url: str) -> None:
    """A twentieth of the limit together at most, so that at ten a second there is one at a time."""
    assert limiter(redis_url, 10).take(64) == Slot(1, 0)
    many = SlidingWindowRateLimiter(
        RedisBackend(client=redis.Redis.from_url(redis_url)), "many", limit=1000, window=1
    )
    assert many.take(64) == Slot(50, 0)
    near = many.take(64, patience_seconds=1)
    assert 0 < near.taken < 50
    assert near.seconds < 0.05


def test_a_slot_that_is_too_far_away_is_not_taken(redis_url: str) -> None:
    """It stays for who comes later; how far away it is is told."""
    mine = limiter(redis_url, 1)
    assert mine.take() == Slot(True, 0)
    far = mine.take(patience_seconds=0.5)
    assert not far.taken
    assert 0.9 < far.seconds <= 1.002
    near = mine.take(patience_seconds=2)
    assert near.taken
    assert 0.9 < near.seconds <= 1.002
    assert mine.take(patience_seconds=1).seconds > 1.9


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

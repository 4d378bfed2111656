"""Promise: workers and scheduler are started when they say so, and are ended in every way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from pipeline.embedded.server import ServerFailed
from pipeline.embedded.workers import Scheduler, Workers

#: A roster that needs nothing but Redis.
ROSTER = """
import os, time
import dramatiq, periodiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(periodiq.PeriodiqMiddleware())
dramatiq.set_broker(broker)

@dramatiq.actor(periodic=periodiq.cron("0 0 1 1 *"))
def work(seconds=0):
    broker.client.set("begun", os.getpid())
    time.sleep(seconds)
    broker.client.set("done", os.getpid())
"""

Start = Callable[..., Workers]
Environment = Callable[..., dict[str, str]]


@pytest.fixture
def environment(tmp_path: Path, redis_url: str, worker_environment: Environment) -> dict[str, str]:
    """The environment of workers that load the roster above from their working directory."""
    (tmp_path / "toy_roster.py").write_text(ROSTER)
    return worker_environment(redis_url=redis_url)


def send(environment: dict[str, str], seconds: float) -> None:
    """Send a message that takes so long."""
    from dramatiq import Message
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=environment["REDIS_URL"])
    message: Message[None] = Message("default", "work", (seconds,), {}, {})
    broker.declare_queue("default")
    broker.enqueue(message)
    broker.close()


def await_key(url: str, key: str) -> int:
    """The process id under ``key``, once there is one."""
    deadline = time.monotonic() + 20
    with redis.Redis.from_url(url) as client:
        while (value := client.get(key)) is None:
            assert time.monotonic() < deadline, f"{key} was not set"
            time.sleep(0.02)
        return int(value)


def test_workers_are_ready_when_start_returns(start_workers: Start, environment: dict[str, str]) -> None:
    """Each worker process has told so, has its own id, and works."""
    workers = start_workers(environment=environment, roster="toy_roster", processes=2)
    pids = workers.worker_pids()
    assert len(set(pids)) == 2
    assert workers.pid not in pids
    send(environment, 0)
    assert await_key(environment["REDIS_URL"], "done") in pids


def test_terminate_lets_the_running_message_end(start_workers: Start, environment: dict[str, str]) -> None:
    """SIGTERM is not for the running message; the exit code is 0."""
    workers = start_workers(environment=environment, roster="toy_roster")
    send(environment, 1.0)
    await_key(environment["REDIS_URL"], "begun")
    workers.terminate()
    assert workers.wait(20) == 0
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        assert client.get("done") is not None


def test_kill_ends_master_and_workers_at_once(start_workers: Start, environment: dict[str, str]) -> None:
    """As kill -9 of the whole tree, and it can be started again."""
    workers = start_workers(environment=environment, roster="toy_roster", processes=2)
    before = [workers.pid, *workers.worker_pids()]
    workers.kill()
    assert not any(psutil.pid_exists(pid) for pid in before)
    workers.restart()
    assert not set(before) & {workers.pid, *workers.worker_pids()}


def test_kill_of_one_worker_ends_the_others(start_workers: Start, environment: dict[str, str]) -> None:
    """Dramatiq's master gives up then; whoever supervises it has to start it again."""
    workers = start_workers(environment=environment, roster="toy_roster", processes=2)
    workers.kill_worker(workers.worker_pids()[0])
    assert workers.wait(20) != 0


def test_workers_that_can_not_load_their_roster_say_why(
    start_workers: Start, environment: dict[str, str]
) -> None:
    """The message is the import error, not a time-out."""
    with pytest.raises(ServerFailed, match="No module named 'no_such_roster'"):
        start_workers(environment=environment, roster="no_such_roster")


def test_quiet_workers_are_refused(tmp_path: Path) -> None:
    """With LOG_LEVEL=ERROR nobody would hear that they are ready."""
    with pytest.raises(ValueError, match="LOG_LEVEL"):
        Workers(tmp_path, environment=os.environ | {"LOG_LEVEL": "error"})


def test_scheduler_starts_and_ends(tmp_path: Path, environment: dict[str, str]) -> None:
    """It has read the roster when `start` returns."""
    scheduler = Scheduler(
        tmp_path / "scheduler", environment=environment, working_directory=tmp_path, roster="toy_roster"
    )
    with scheduler:
        assert "toy_roster:work" in scheduler.log()
        scheduler.send_signal(signal.SIGTERM)
        scheduler.wait(10)

"""``python -m pipeline.health`` tells a container with its servers from one without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

CHECK = (sys.executable, "-m", "pipeline.health")


def test_healthy_when_redis_and_sql_answer(
    worker_environment: Callable[..., dict[str, str]], redis_url: str, database_url: str
) -> None:
    """Both answer: exit 0 and no word."""
    env = worker_environment(redis_url=redis_url, database_url=database_url)
    run = subprocess.run(CHECK, env=env, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_names_what_does_not_answer_and_no_secret(
    worker_environment: Callable[..., dict[str, str]],
) -> None:
    """Neither answers: exit 1, a line for each, and no password in it."""
    env = worker_environment(
        redis_url="redis://:hidden-one@127.0.0.1:9/0",
        database_url="postgresql://app:hidden-two@127.0.0.1:9/credentials",
    )
    run = subprocess.run(CHECK, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert [line.split(":")[0] for line in run.stderr.splitlines()] == ["redis", "database"]
    assert "hidden" not in run.stderr


def test_wrong_settings_are_unhealthy(worker_environment: Callable[..., dict[str, str]]) -> None:
    """A wrong variable is named, without a traceback."""
    run = subprocess.run(
        CHECK, env=worker_environment(redis_port="none"), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "REDIS_PORT" in run.stderr

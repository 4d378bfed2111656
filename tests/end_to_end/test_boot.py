"""Promise: workers and scheduler start with no further argument, or say what is wrong, all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.embedded.server import ServerFailed
from pipeline.embedded.workers import Scheduler, Workers


def test_wrong_settings_are_named_together(
    start_workers: Callable[..., Workers], worker_environment: Callable[..., dict[str, str]]
) -> None:
    """A worker without a chain does not start; one message names every variable."""
    with pytest.raises(ServerFailed) as failed:
        start_workers(environment=worker_environment())
    message = str(failed.value)
    assert "BLOCKCHAIN_CHAIN_ID" in message
    assert "BLOCKCHAIN_CONTRACT_ADDRESS" in message
    assert "BLOCKCHAIN_PRIVATE_KEY" in message


def test_mock_mode_warns(
    start_workers: Callable[..., Workers],
    worker_environment: Callable[..., dict[str, str]],
    redis_url: str,
    sqlite_url: str,
) -> None:
    """Nobody takes a mocked chain for a real one."""
    environment = worker_environment(
        redis_url=redis_url, database_url=sqlite_url, blockchain_mock_enabled="true"
    )
    workers = start_workers(environment=environment)
    assert "nothing is written to any chain" in workers.log()


def test_the_scheduler_knows_the_periodic_actors(
    new_directory: Callable[..., object], worker_environment: Callable[..., dict[str, str]], redis_url: str
) -> None:
    """Purge, and the sweeps as a backstop."""
    directory = new_directory("scheduler")
    with Scheduler(directory, environment=worker_environment(redis_url=redis_url)) as scheduler:  # type: ignore[arg-type]
        for name in ("purge", "settle", "reconcile"):
            assert f"{name}@sweeps" in scheduler.log()

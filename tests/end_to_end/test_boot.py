"""Promise: workers and scheduler start with no further argument, or say what is wrong, all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.embedded.server import ServerFailed
from pipeline.embedded.workers import Scheduler, Workers
from tests.waiting import until


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


def test_one_message_names_what_is_wrong_and_what_is_missing(
    start_workers: Callable[..., Workers], worker_environment: Callable[..., dict[str, str]]
) -> None:
    """No second one, and no traceback."""
    with pytest.raises(ServerFailed) as failed:
        start_workers(environment=worker_environment(batch_max_size="x"))
    message = str(failed.value)
    assert message.count("wrong settings") == 1
    assert "BATCH_MAX_SIZE" in message
    assert "BLOCKCHAIN_CHAIN_ID" in message
    assert "Traceback" not in message


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
            entry = f"{name}@sweeps"
            until(lambda entry=entry: entry in scheduler.log(), seconds=10, what=entry)


def _no_key(tmp_path: Path) -> dict[str, object]:
    return {"blockchain_private_key": "not a key"}


def _open_file(tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "key"
    path.write_text("11" * 32)
    path.chmod(0o644)
    return {"blockchain_private_key_file": path}


def _garbage(tmp_path: Path) -> dict[str, object]:
    path = tmp_path / "key"
    path.write_text("garbage")
    path.chmod(0o600)
    return {"blockchain_private_key_file": path}


def _bad_dsn(tmp_path: Path) -> dict[str, object]:
    return {"blockchain_private_key": "11" * 32, "sentry_dsn": "https://nobody"}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_no_key, "BLOCKCHAIN_PRIVATE_KEY: must hold a private key"),
        (_open_file, "others can read"),
        (_garbage, "BLOCKCHAIN_PRIVATE_KEY_FILE: must hold a private key"),
        (_bad_dsn, "SENTRY_DSN: is not a Sentry DSN"),
    ],
)
def test_a_key_that_is_none_stops_the_worker(
    start_workers: Callable[..., Workers],
    worker_environment: Callable[..., dict[str, str]],
    tmp_path: Path,
    redis_url: str,
    sqlite_url: str,
    make: Callable[[Path], dict[str, object]],
    named: str,
) -> None:
    """One message and an end: no credential pays for it."""
    chain = {"blockchain_chain_id": 1, "blockchain_contract_address": "0x" + "01" * 20}
    with pytest.raises(ServerFailed, match=named) as failed:
        start_workers(
            environment=worker_environment(
                redis_url=redis_url, database_url=sqlite_url, **chain, **make(tmp_path)
            )
        )
    assert "Traceback" not in str(failed.value)
    assert "garbage" not in str(failed.value)

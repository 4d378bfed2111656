"""Promise: what is queued is anchored once by real workers, confirmed, and provable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.chain.client import ChainClient
from pipeline.embedded.workers import Workers
from pipeline.settings import Settings, get_settings
from tests.servers.anvil import Anvil


def until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for a condition, and say what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s still not: {what}")
        time.sleep(0.05)


@pytest.fixture
def client(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`pipeline.client` on empty servers."""
    from pipeline import client
    from pipeline.status import tree_of

    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    get_settings.cache_clear()
    client.shutdown_blockchain_queue()
    tree_of.cache_clear()
    yield client
    client.shutdown_blockchain_queue()


@pytest.fixture
def start(start_workers: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workers]:
    """Start workers with this process's settings and the arguments; the settings are set here too."""

    def run(*, processes: int = 1, **variables: object) -> Workers:
        for name, value in variables.items():
            monkeypatch.setenv(name.upper(), str(value))
        get_settings.cache_clear()
        return start_workers(environment=dict(os.environ), processes=processes)

    return run


def document(number: int) -> dict[str, Any]:
    """A credential as an issuer has it."""
    return {"type": "Diploma", "holder": f"Holder {number}", "grade": 1.5, "year": 2026}


def chain_variables(anvil: Anvil) -> dict[str, object]:
    """Settings for a freshly deployed registry."""
    account = anvil.accounts[0]
    variables: dict[str, Any] = {
        "blockchain_rpc_url": anvil.rpc_url,
        "blockchain_chain_id": anvil.chain_id,
        "blockchain_private_key": account.private_key,
    }
    deployed = ChainClient(Settings(**variables)).deploy()
    return {**variables, "blockchain_contract_address": deployed.contract_address}


def test_mock_mode(client: Any, start: Callable[..., Workers]) -> None:
    """A mock write is confirmed without a chain, and says that it is one."""
    from pipeline.credentials import issue, sync

    start(blockchain_mock_enabled="true")
    issue("one", document(1))
    sync([{"credential_id": f"c{n}", "document": document(n)} for n in range(20)])
    until(lambda: client.get_job_counts()["completed"] == 21, seconds=20, what="21 completed")
    result = client.get_blockchain_write_status("one")["result"]
    assert result["mock"] is True
    assert result["transaction_hash"] is None


def test_anchored(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """Credentials on the chain: every root is known to the registry, every leaf is in one of them."""
    from pipeline.credentials import sync

    variables = chain_variables(anvil)
    start(processes=2, **variables)
    sync([{"credential_id": f"c{n}", "document": document(n)} for n in range(300)])
    until(lambda: client.get_job_counts()["completed"] == 300, seconds=60, what="300 completed")
    chain = ChainClient.from_settings(get_settings())
    results = [job["result"] for job in client.get_completed(0, 300)]
    assert len({result["leaf"] for result in results}) == 300
    for root in {result["merkle_root"] for result in results}:
        assert chain.is_anchored(bytes.fromhex(root[2:]))

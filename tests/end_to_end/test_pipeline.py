"""Promise: what is queued is anchored once by real workers, confirmed, and provable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.embedded.workers import Workers
from tests.issuer import chain_variables, document
from tests.servers.anvil import Anvil
from tests.truth import assert_truthful
from tests.waiting import until


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
    """Credentials on the chain: the registry knows their roots and no other, each is under one of them."""
    from pipeline.credentials import sync

    variables = chain_variables(anvil)
    start(processes=2, **variables)
    sync([{"credential_id": f"c{n}", "document": document(n)} for n in range(300)])
    until(lambda: client.get_job_counts()["completed"] == 300, seconds=60, what="300 completed")
    assert_truthful(anvil, variables)

"""Fixtures of what settling asks of a node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.chain.client import ChainClient
from tests.chain import new_client, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before the test's anvil."""
    return start_fault_proxy(anvil.rpc_url)


@pytest.fixture
def client(anvil: Anvil, proxy: FaultProxy) -> ChainClient:
    """A client that knows only the proxy, and is connected."""
    contract = registered(anvil).contract_address
    client = new_client(anvil, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    return client

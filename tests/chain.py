"""Clients of a node for tests, with a registry of their own."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from pipeline.chain.blocks import Receipt
from pipeline.chain.client import ChainClient
from pipeline.chain.rpc import RpcClient
from pipeline.chain.transaction import PreparedTransaction
from pipeline.embedded.evm import EvmServer
from pipeline.errors import NodeUnreachable
from pipeline.settings import Settings
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.servers.http_proxy import Proxy

AnyServer = Anvil | EvmServer


def new_client(server: AnyServer, **more: Any) -> ChainClient:
    """A client of the server's funded account; ``more`` are other settings."""
    usual = {
        "blockchain_rpc_url": server.rpc_url,
        "blockchain_chain_id": server.chain_id,
        "blockchain_private_key": server.private_key,
    }
    return ChainClient.from_settings(Settings(**{**usual, **more}))


def registered(server: AnyServer, **more: Any) -> ChainClient:
    """A client with a fresh registry."""
    return new_client(
        server, blockchain_contract_address=new_client(server).deploy().contract_address, **more
    )


def mined(client: ChainClient, transaction: PreparedTransaction) -> Receipt:
    """The receipt, once there is one; the test's time-out ends the wait."""
    while True:
        receipt = client.receipts([transaction.hash])[transaction.hash]
        if receipt is not None:
            return receipt


def next_anchor(client: ChainClient, root: bytes | None = None) -> PreparedTransaction:
    """A signed anchor with the signer's next nonce."""
    return client.prepare_anchor(
        root or secrets.token_bytes(32), client.transaction_counts()[1], client.fees()
    )


def anchored(client: ChainClient, root: bytes | None = None) -> Receipt:
    """The receipt of an anchor."""
    transaction = next_anchor(client, root)
    assert client.send(transaction.raw).taken
    return mined(client, transaction)


def lose(client: ChainClient, proxy: FaultProxy) -> None:
    """Lose the node, and find it again."""
    proxy.down = True
    with pytest.raises(NodeUnreachable):
        client.head()
    proxy.down = False
    client.head()


def new_rpc(*proxies: Proxy) -> RpcClient:
    """A client of these, in this order, that waits half a second for an answer."""
    return RpcClient([proxy.url for proxy in proxies], timeout_seconds=(0.5, 0.5))


def chain_id(rpc: RpcClient) -> int:
    """A read."""
    return int(rpc.call("eth_chainId"), 16)

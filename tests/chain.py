"""Clients of a node for tests, with a registry of their own."""

from __future__ import annotations

from typing import Any

from pipeline.chain.blocks import Receipt
from pipeline.chain.client import ChainClient
from pipeline.chain.transaction import PreparedTransaction
from pipeline.embedded.evm import EvmServer
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

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

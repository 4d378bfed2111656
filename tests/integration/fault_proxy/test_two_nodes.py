"""Promise: of two nodes behind the fault proxy the one that is chosen answers, and one that lags shows
nothing of what came later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.embedded.jsonrpc import JsonRpcError, call
from tests.json_rpc import signed
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy

LOG_0 = "0x60006000a0"  # PUSH1 0 PUSH1 0 LOG0: an event without topics, as creation code


def test_two_nodes_by_turns(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Request by request, or the one that is chosen."""
    proxy = start_fault_proxy(start_anvil(chain_id=1).rpc_url, start_anvil(chain_id=2).rpc_url)
    assert [call(proxy.url, "eth_chainId") for _ in range(2)] == ["0x1", "0x1"]
    proxy.current = 1
    assert [call(proxy.url, "eth_chainId") for _ in range(2)] == ["0x2", "0x2"]
    proxy.alternate = True
    assert [call(proxy.url, "eth_chainId") for _ in range(4)] == ["0x2", "0x1", "0x2", "0x1"]


def views(proxy: FaultProxy, anvil: Anvil, hash_: str, block_hash: str) -> dict[str, Any]:
    """What the proxy tells of block 2, in which there is one transaction, and of the state then."""
    asked = {
        "head": ("eth_blockNumber",),
        "latest": ("eth_getBlockByNumber", "latest", False),
        "block": ("eth_getBlockByNumber", "0x2", False),
        "by hash": ("eth_getBlockByHash", block_hash, False),
        "receipt": ("eth_getTransactionReceipt", hash_),
        "transaction": ("eth_getTransactionByHash", hash_),
        "receipts": ("eth_getBlockReceipts", "0x2"),
        "receipts by hash": ("eth_getBlockReceipts", block_hash),
        "logs": ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x2"}),
        "mined": ("eth_getTransactionCount", anvil.address, "latest"),
        "pending": ("eth_getTransactionCount", anvil.address, "pending"),
        "fees": ("eth_feeHistory", "0x1", "latest", []),
        "final": ("eth_getBlockByNumber", "finalized", False),
    }
    return {name: call(proxy.url, *one) for name, one in asked.items()}


def test_a_node_that_lags(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Has no block, receipt, log or state of what came after it was frozen; then it catches up."""
    anvil = start_anvil(automine=False, slots_in_an_epoch=1)
    proxy = start_fault_proxy(anvil.rpc_url, anvil.rpc_url)
    anvil.mine()
    proxy.freeze(1)
    raw, hash_ = signed(anvil, to=None, data=LOG_0)
    proxy.current = 1
    assert call(proxy.url, SEND, raw) == hash_
    anvil.mine()
    block_hash = anvil.rpc("eth_getBlockByNumber", "0x2", False)["hash"]
    anvil.mine(9)
    behind = views(proxy, anvil, hash_, block_hash)
    assert (behind["head"], behind["latest"]["number"]) == ("0x1", "0x1")
    for name in ("block", "by hash", "receipt", "transaction", "receipts", "receipts by hash"):
        assert behind[name] is None, name
    assert (behind["logs"], behind["mined"], behind["pending"]) == ([], "0x0", "0x0")
    assert behind["fees"]["oldestBlock"] == "0x1"
    assert behind["final"]["number"] == "0x0"
    with pytest.raises(JsonRpcError, match="header not found"):
        call(proxy.url, "eth_getBalance", anvil.address, "0x2")
    assert call(proxy.url, "eth_getBlockReceipts", "0x3") is None
    proxy.thaw(1)
    assert call(proxy.url, "eth_getBlockReceipts", "0x3") == []
    ahead = views(proxy, anvil, hash_, block_hash)
    assert ahead["head"] == "0xb"
    assert len(ahead["receipts"]) == len(ahead["logs"]) == 1
    assert all(ahead.values())
    proxy.current = 0
    assert views(proxy, anvil, hash_, block_hash) == ahead
    proxy.freeze(0, at=2)
    assert views(proxy, anvil, hash_, block_hash)["receipt"] == ahead["receipt"]
    assert call(proxy.url, "eth_blockNumber") == "0x2"

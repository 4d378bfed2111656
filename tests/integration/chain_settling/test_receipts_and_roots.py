"""Promise: the receipts of many blocks, and which transaction anchored a root, are found in few requests,
and what a node does not serve is no answer."""

from __future__ import annotations

import secrets

import pytest

from pipeline.chain import anchoring
from pipeline.chain.block_receipts import BLOCKS_PER_REQUEST
from pipeline.chain.blocks import BlockReceiptsUnsupported
from pipeline.chain.client import ChainClient
from pipeline.chain.rpc import RpcError
from tests.chain import AnyServer, anchored, lose, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

LOGS, RECEIPTS = "eth_getLogs", "eth_getBlockReceipts"


# --- blocks of receipts --------------------------------------------------------------------------


def test_block_receipts(server: AnyServer) -> None:
    """The same receipts as one by one; None for a block that is not there yet."""
    client = registered(server)
    receipts = [anchored(client) for _ in range(3)]
    found = client.block_receipts([*(receipt.block_number for receipt in receipts), 10**9])
    assert found == {receipt.block_number: [receipt] for receipt in receipts} | {10**9: None}


def test_block_receipts_in_few_requests(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Some blocks at a time, for a full one is large; an empty block has none."""
    anvil.mine(20)
    before = proxy.http_requests
    assert client.block_receipts(range(2, 22)) == {number: [] for number in range(2, 22)}
    assert proxy.http_requests - before == -(-20 // BLOCKS_PER_REQUEST)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-32601, "Method not found"),
        (-32600, "Invalid request"),
        (-32000, "the method eth_getBlockReceipts does not exist/is not available"),
        (-32004, "Unsupported method: eth_getBlockReceipts"),
    ],
)
def test_a_node_without_block_receipts(proxy: FaultProxy, client: ChainClient, code: int, words: str) -> None:
    """Is asked once, and once more when it was lost: another one may be there then."""
    proxy.answer_error(RECEIPTS, words, 2, code=code)
    for _ in range(3):
        with pytest.raises(BlockReceiptsUnsupported):
            client.block_receipts([1])
    assert proxy.counts[RECEIPTS] == 1
    lose(client, proxy)
    with pytest.raises(BlockReceiptsUnsupported):
        client.block_receipts([1])
    lose(client, proxy)
    assert client.block_receipts([1])[1]
    assert proxy.counts[RECEIPTS] == 3


def test_other_errors_of_block_receipts(proxy: FaultProxy, client: ChainClient) -> None:
    """A block that a node does not have, and trouble of its own: neither means that it has no such method."""
    proxy.answer_error(RECEIPTS, "header not found")
    assert client.block_receipts([1]) == {1: None}
    proxy.answer_error(RECEIPTS, "internal error", code=-32603)
    with pytest.raises(RpcError, match="internal error"):
        client.block_receipts([1])
    assert client.block_receipts([1])[1]


# --- where a root was anchored -------------------------------------------------------------------


def test_the_transaction_that_anchored_a_root(server: AnyServer) -> None:
    """Found among others'; None for a root that nobody has anchored."""
    client = registered(server)
    root = secrets.token_bytes(32)
    anchored(client)
    assert client.anchoring_transaction(root) is None
    receipt = anchored(client, root)
    anchored(client)
    assert client.anchoring_transaction(root) == receipt.transaction_hash


@pytest.mark.parametrize("seconds", [12, 0])
@pytest.mark.parametrize("code", [-32602, -32005])
def test_a_root_on_a_long_chain(
    anvil: Anvil,
    proxy: FaultProxy,
    client: ChainClient,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    code: int,
) -> None:
    """In few requests, though the node gives the logs of few blocks at once; also where many blocks have one
    timestamp, and where the node says it with the code of a rate limit."""
    monkeypatch.setattr(anchoring, "RANGE_BLOCKS", 40)
    roots = [secrets.token_bytes(32) for _ in range(3)]
    hashes = []
    for root in roots:
        anvil.rpc("anvil_mine", hex(60), hex(seconds))
        hashes.append(anchored(client, root).transaction_hash)
    anvil.rpc("anvil_mine", hex(60), hex(seconds))
    refused = proxy.answer_error(
        LOGS,
        "query exceeds max block range 20",
        None,
        code=code,
        when=lambda params: int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 20,
    )
    before = proxy.http_requests
    assert [client.anchoring_transaction(root) for root in roots] == hashes
    assert refused.used
    if seconds:
        assert proxy.http_requests - before <= 3 * 12


def test_a_node_without_logs(proxy: FaultProxy, client: ChainClient) -> None:
    """No logs at all: an error. None that old: nobody knows."""
    root = secrets.token_bytes(32)
    anchored(client, root)
    proxy.answer_result(LOGS, [])
    assert client.anchoring_transaction(root) is None
    proxy.do_not_serve(LOGS)
    with pytest.raises(RpcError, match="does not exist"):
        client.anchoring_transaction(root)


def test_only_a_registrys_own_log_counts(anvil: Anvil, client: ChainClient) -> None:
    """The same root in another registry is another anchor."""
    root = secrets.token_bytes(32)
    other = registered(anvil)
    anchored(other, root)
    receipt = anchored(client, root)
    assert client.anchoring_transaction(root) == receipt.transaction_hash
    assert anchoring.find(other.rpc, other.registry, root) != receipt.transaction_hash

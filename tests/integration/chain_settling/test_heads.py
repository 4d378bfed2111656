"""Promise: heads, counts and whose a nonce is are of one moment and one node, and what a node can't tell is
never taken for an answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.chain.client import ChainClient
from pipeline.chain.rpc import RpcError
from tests.chain import AnyServer, anchored, lose, new_client, next_anchor, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

BLOCK = "eth_getBlockByNumber"


def test_heads(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """The newest block and both counts of the signer, or of another one, in one HTTP request."""
    anvil.stop_mining()
    assert client.send(next_anchor(client).raw).taken
    before = proxy.http_requests
    heads = client.heads()
    assert proxy.http_requests == before + 1
    assert heads.head == client.head()
    assert (heads.mined_nonce, heads.pending_nonce) == (1, 2)
    other = client.heads(anvil.accounts[1].address)
    assert (other.mined_nonce, other.pending_nonce) == (0, 0)


def test_heads_of_the_embedded_node(server: AnyServer) -> None:
    """Each kind of node serves them."""
    client = new_client(server)
    heads = client.heads()
    assert heads.head.number == client.head().number
    assert (heads.mined_nonce, heads.pending_nonce) == client.transaction_counts()


@pytest.mark.parametrize(("slots", "finalized"), [(1, 8), (32, 0)])
def test_the_finalized_head(start_anvil: Callable[..., Anvil], slots: int, finalized: int) -> None:
    """As the node tells it; anvil calls final what is two epochs old."""
    server = start_anvil(slots_in_an_epoch=slots)
    server.mine(10)
    assert new_client(server).heads().finalized == finalized


def test_a_node_that_calls_nothing_final(proxy: FaultProxy, client: ChainClient) -> None:
    """It answers with an error, or with null; the rest of the heads is told all the same."""
    proxy.answer_error(BLOCK, "invalid block tag", when=lambda params: params[0] == "finalized")
    proxy.answer_result(BLOCK, None, when=lambda params: params[0] == "finalized")
    for _ in range(2):
        heads = client.heads()
        assert (heads.finalized, heads.head.number) == (None, 1)


def test_heads_without_a_count_are_none(proxy: FaultProxy, client: ChainClient) -> None:
    """An error in place of a count is not a count of 0."""
    proxy.answer_error("eth_getTransactionCount", "internal error")
    with pytest.raises(RpcError, match="internal error"):
        client.heads()


def test_whose_transaction_used_a_nonce(server: AnyServer) -> None:
    """Somebody else's, when it is used up to that block and the node knows of none of ours."""
    client = registered(server)
    receipt = anchored(client)
    nonce, unknown = client.transaction_counts()[0] - 1, "0x" + "ab" * 32

    def foreign(*hashes: str, later: int = 0) -> bool:
        return client.is_foreign(client.signer_address, nonce + later, hashes)

    assert foreign(unknown)
    assert not foreign(unknown, receipt.transaction_hash)
    assert not foreign(unknown, later=1)


def test_whose_transaction_used_a_nonce_is_asked_at_once(proxy: FaultProxy, client: ChainClient) -> None:
    """In one request, so that one node says it all; an error in it is no answer."""
    client.head()
    before = proxy.http_requests
    assert not client.is_foreign(client.signer_address, 10**6, ["0x" + "ab" * 32] * 3)
    assert proxy.http_requests - before == 1
    proxy.answer_error("eth_getTransactionReceipt", "transaction indexing is in progress")
    with pytest.raises(RpcError):
        client.is_foreign(client.signer_address, 0, ["0x" + "ab" * 32])


def test_what_the_node_can_not_tell_is_not_known(
    proxy: FaultProxy, client: ChainClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the place of one receipt or block takes nothing from the others; the log has it."""
    proxy.answer_error("eth_getTransactionReceipt", "transaction indexing is in progress")
    proxy.answer_error("eth_getBlockByNumber", "pruned history unavailable", when=lambda p: p[0] == "0x0")
    unknown = "0x" + "ab" * 32
    receipts, blocks = client.receipts_and_blocks([unknown], [0, 1])
    assert receipts == {unknown: None}
    assert blocks[0] is None
    assert blocks[1] is not None
    assert "2 of 3 answers are missing" in caplog.text


def test_which_transactions_a_node_has(anvil: Anvil, client: ChainClient) -> None:
    """Mined, or in its pool, or neither."""
    done = anchored(client).transaction_hash
    anvil.stop_mining()
    waiting, nowhere = next_anchor(client), "0x" + "11" * 32
    assert client.send(waiting.raw).taken
    assert client.knows([nowhere, done, waiting.hash]) == {nowhere: False, done: True, waiting.hash: True}


def test_the_first_block_is_asked_once_for_each_connection(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """The chain that a node has when it comes back may be another one."""
    first, second = start_anvil(), start_anvil(more=["--timestamp=1700000000"])
    proxy = start_fault_proxy(first.rpc_url, second.rpc_url)
    client = new_client(first, blockchain_rpc_url=proxy.url)
    client.head()
    before = proxy.counts[BLOCK]
    assert client.genesis_hash() == client.genesis_hash() == first.rpc(BLOCK, "0x0", False)["hash"]
    assert proxy.counts[BLOCK] == before + 1
    proxy.current = 1
    lose(client, proxy)
    assert client.genesis_hash() == second.rpc(BLOCK, "0x0", False)["hash"]

"""Promise: another answer in place of the node's is told as often as the fault proxy was told to, of those
requests that are meant, alone or in a batch."""

from __future__ import annotations

import json

import pytest

from pipeline.embedded.jsonrpc import JsonRpcError, call
from tests.json_rpc import pooled, post, request, signed
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy
from tests.servers.faults import ANY

# --- other answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("forward", [False, True])
def test_json_rpc_error(anvil: Anvil, proxy: FaultProxy, forward: bool) -> None:
    """In place of the node's answer, and of asking it unless told to."""
    proxy.answer_error(SEND, "already known", code=-32010, data="0x1", forward=forward)
    with pytest.raises(JsonRpcError) as caught:
        call(proxy.url, SEND, signed(anvil)[0])
    assert (caught.value.message, caught.value.code, caught.value.data) == ("already known", -32010, "0x1")
    assert pooled(anvil) == forward
    assert proxy.sent[0].answer == ("accepted" if forward else None)


@pytest.mark.parametrize("forward", [False, True])
def test_result(anvil: Anvil, proxy: FaultProxy, forward: bool) -> None:
    """A result that is not the node's, which is asked only if told to."""
    proxy.answer_result("evm_mine", "?", forward=forward)
    assert call(proxy.url, "evm_mine") == "?"
    assert anvil.block_number == forward
    proxy.answer_result("eth_chainId", None)
    assert call(proxy.url, "eth_chainId") is None
    assert call(proxy.url, "eth_chainId") == "0x7a69"


def test_a_method_that_is_not_served(proxy: FaultProxy) -> None:
    """As geth says it, until the fault is ended."""
    fault = proxy.do_not_serve("eth_getBlockReceipts")
    for _ in range(3):
        with pytest.raises(JsonRpcError, match="eth_getBlockReceipts does not exist") as caught:
            call(proxy.url, "eth_getBlockReceipts", "latest")
        assert caught.value.code == -32601
    fault.end()
    assert call(proxy.url, "eth_getBlockReceipts", "latest") == []


def test_which_requests_a_fault_meets(proxy: FaultProxy) -> None:
    """After those it skips, and only those with such parameters; of all methods, or one."""
    fault = proxy.answer_result(
        "eth_getBlockByNumber", "?", 2, skip=1, when=lambda params: params[0] == "finalized"
    )
    assert call(proxy.url, "eth_getBlockReceipts", "finalized") == []
    assert call(proxy.url, "eth_getBlockByNumber", "latest", False) != "?"
    found = [call(proxy.url, "eth_getBlockByNumber", "finalized", False) == "?" for _ in range(4)]
    assert found == [False, True, True, False]
    assert fault.used == 2
    proxy.answer_result(ANY, "!", None)
    assert call(proxy.url, "eth_chainId") == "!"
    proxy.end_faults()
    assert call(proxy.url, "eth_chainId") == "0x7a69"


# --- batches -------------------------------------------------------------------------------------


def test_an_answer_in_a_batch(anvil: Anvil, proxy: FaultProxy) -> None:
    """Meets the entries of its method, one by one; the others have the node's answers."""
    proxy.answer_error(SEND, "nonce too low", 1)
    batch = [
        request(0, "eth_chainId"),
        request(1, SEND, signed(anvil, 0)[0]),
        request(2, SEND, signed(anvil, 0)[0]),
        request(3, "eth_blockNumber"),
    ]
    answers = json.loads(post(proxy, batch)[1])
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]
    assert [answer.get("result") for answer in answers] == ["0x7a69", None, signed(anvil)[1], "0x0"]
    assert answers[1]["error"]["message"] == "nonce too low"


def test_http_faults_meet_a_whole_batch(anvil: Anvil, proxy: FaultProxy) -> None:
    """Once, however many of its entries are meant."""
    batch = [request(number, SEND, signed(anvil, number)[0]) for number in range(3)]
    refused, cut = proxy.answer_status(SEND, 502, times=2), proxy.cut_reply(SEND, times=2, skip=1)
    assert [post(proxy, batch)[0].status for _ in range(2)] == [502, 502]
    assert pooled(anvil) == 0
    assert len(json.loads(post(proxy, batch)[1])) == 3
    with pytest.raises(ConnectionError):
        post(proxy, batch)
    assert (refused.used, cut.used) == (2, 1)
    assert pooled(anvil) == 3

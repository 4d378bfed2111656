"""Promise: a reply is cut, held, late or refused as often as the fault proxy was told, and the node has got
what it is said to have got; without a fault nothing changes."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from typing import Any

import pytest

from pipeline.embedded.jsonrpc import JsonRpcError, call
from tests.json_rpc import pooled, post, request, signed
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy
from tests.servers.faults import ANY
from tests.waiting import until

# --- the way -------------------------------------------------------------------------------------


def test_without_faults_nothing_changes(anvil: Anvil, proxy: FaultProxy) -> None:
    """Results, errors and data are the node's; requests are counted by method."""
    assert call(proxy.url, "eth_chainId") == "0x7a69"
    with pytest.raises(JsonRpcError, match="Method not found") as caught:
        call(proxy.url, "eth_nonsense")
    assert caught.value.code == -32601
    _, body = post(proxy, [request(7, "eth_chainId"), request(5, "eth_no"), request(6, "eth_chainId")])
    assert [(answer["id"], answer.get("result")) for answer in json.loads(body)] == [
        (7, "0x7a69"),
        (5, None),
        (6, "0x7a69"),
    ]
    assert proxy.counts == {"eth_chainId": 3, "eth_nonsense": 1, "eth_no": 1}
    assert proxy.http_requests == 3


def test_cut_reply(anvil: Anvil, proxy: FaultProxy) -> None:
    """The node has it, the client hears nothing; as often as told, then all is well."""
    fault = proxy.cut_reply(SEND, times=2)
    for nonce in range(2):
        with pytest.raises(RemoteDisconnected):
            post(proxy, request(1, SEND, signed(anvil, nonce)[0]))
        assert pooled(anvil) == nonce + 1
    raw, hash_ = signed(anvil, 2)
    assert call(proxy.url, SEND, raw) == hash_
    assert fault.used == 2


@pytest.mark.parametrize("broken", [False, True])
def test_truncated_reply(anvil: Anvil, proxy: FaultProxy, broken: bool) -> None:
    """The node has it, the client hears the first half; announced as the whole, or broken off."""
    proxy.truncate_reply(SEND, broken=broken)
    raw, hash_ = signed(anvil)
    if broken:
        with pytest.raises(IncompleteRead) as caught:
            post(proxy, request(1, SEND, raw))
        half = caught.value.partial
    else:
        _, half = post(proxy, request(1, SEND, raw))
    assert half.startswith(b'{"')
    assert hash_[-20:].encode() not in half
    assert pooled(anvil) == 1


@pytest.mark.parametrize("own_event", [False, True])
def test_held_reply(anvil: Anvil, proxy: FaultProxy, own_event: bool) -> None:
    """The node has it, the client waits until the test says so; others are answered meanwhile."""
    event = threading.Event() if own_event else None
    fault = proxy.hold_reply(SEND, until=event)
    raw, hash_ = signed(anvil)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(call, proxy.url, SEND, raw)
        assert fault.happened.wait(10)
        assert pooled(anvil) == 1
        assert call(proxy.url, "eth_chainId") == "0x7a69"
        assert not held.done()
        if event:
            event.set()
        else:
            fault.end()
        assert held.result(10) == hash_


def test_delayed_reply(proxy: FaultProxy) -> None:
    """For so long."""
    proxy.delay_reply("eth_chainId", 0.3)
    started = time.monotonic()
    assert call(proxy.url, "eth_chainId") == "0x7a69"
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("status", "wish"), [(429, 7), (502, None), (503, None), (503, 1)])
def test_http_status(anvil: Anvil, proxy: FaultProxy, status: int, wish: int | None) -> None:
    """The node is not asked."""
    proxy.answer_status(SEND, status, retry_after=wish)
    response, body = post(proxy, request(1, SEND, signed(anvil)[0]))
    assert response.status == status
    assert response.headers["Retry-After"] == (str(wish) if wish else None)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)
    assert pooled(anvil) == 0


def test_refused(anvil: Anvil, proxy: FaultProxy) -> None:
    """Closed without asking the node."""
    proxy.refuse(SEND)
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, signed(anvil)[0])
    assert pooled(anvil) == 0


def test_down(anvil: Anvil, proxy: FaultProxy) -> None:
    """No method, no new connection and none that was open before; until it is up again."""
    kept = HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=10)
    kept.request("POST", "/", json.dumps(request(1, "eth_chainId")))
    kept.getresponse().read()
    proxy.down = True
    kept.request("POST", "/", json.dumps(request(1, SEND, signed(anvil)[0])))
    with pytest.raises(ConnectionError):
        kept.getresponse()
    kept.close()
    with pytest.raises(ConnectionError):
        call(proxy.url, "eth_chainId")
    assert pooled(anvil) == 0
    assert proxy.counts == {"eth_chainId": 1}
    proxy.down = False
    assert call(proxy.url, "eth_chainId") == "0x7a69"


def test_down_while_a_reply_is_held(anvil: Anvil, proxy: FaultProxy) -> None:
    """It never comes."""
    fault = proxy.hold_reply(SEND)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(call, proxy.url, SEND, signed(anvil)[0])
        assert fault.happened.wait(10)
        proxy.down = True
        fault.end()
        with pytest.raises(ConnectionError):
            held.result(10)


def test_a_node_that_is_not_there(anvil: Anvil, proxy: FaultProxy) -> None:
    """Looks like a proxy that is down."""
    anvil.stop()
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, signed(anvil)[0])
    assert [sent.answer for sent in proxy.sent] == [None]
    anvil.start()
    assert call(proxy.url, "eth_chainId") == "0x7a69"


# --- the proxy's own end -------------------------------------------------------------------------


def test_its_end_lets_go_what_is_held(anvil: Anvil) -> None:
    """No test hangs because a reply was held."""
    with ThreadPoolExecutor() as pool:
        with FaultProxy(anvil.rpc_url) as proxy:
            fault = proxy.hold_reply(SEND)
            held = pool.submit(call, proxy.url, SEND, signed(anvil)[0])
            assert fault.happened.wait(10)
        until(held.done, seconds=10, what="the held request has ended")
        with pytest.raises(OSError, match=r"refused"):
            call(proxy.url, "eth_chainId")


def test_a_fault_of_its_own_is_told(anvil: Anvil) -> None:
    """It would look like a node's otherwise."""

    def broken(params: Any) -> bool:
        raise LookupError("this test")

    proxy = FaultProxy(anvil.rpc_url).__enter__()
    proxy.refuse(ANY, when=broken)
    with pytest.raises(ConnectionError):
        call(proxy.url, "eth_chainId")
    with pytest.raises(LookupError, match="this test"):
        proxy.__exit__(None)

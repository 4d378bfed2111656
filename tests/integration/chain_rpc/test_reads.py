"""Promise: whatever a node or the way to it does, a read goes to the next URL or says that no node answers;
a node that wants to be left alone is; and no token is shown."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from pipeline.chain.rpc import RpcError
from pipeline.errors import NodeUnreachable
from tests.chain import chain_id, new_rpc
from tests.servers.http_proxy import GARBAGE, TOKEN, Proxy

# --- reads ---------------------------------------------------------------------------------------

#: What providers say, in JSON-RPC, of a token that is no more, or not paid for.
REVOKED = b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32600, "message": "Must be authenticated!"}}'

FAULTS = [
    "hang",
    "half",
    *(429, 500, 502, 503, 403),
    *((status, {}, REVOKED) for status in (401, 402, 403, 407)),
    (400, {}, GARBAGE["nested too deeply"]),
    *GARBAGE.values(),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_read_goes_to_the_next_url(start_proxy: Callable[[], Proxy], fault: Any) -> None:
    """Whatever the first one does."""
    first, second = start_proxy(), start_proxy()
    rpc = new_rpc(first, second)
    first.faults = [fault]
    assert chain_id(rpc) == 31337
    assert second.methods == ["eth_chainId"]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_read_that_nobody_answers(proxy: Proxy, fault: Any) -> None:
    """One error that says what happened; neither it nor its traceback shows the token."""
    rpc = new_rpc(proxy)
    proxy.faults = [fault]
    with pytest.raises(
        NodeUnreachable, match=rf"no node answers: http://127.0.0.1:{proxy.port}/\*\*\* "
    ) as caught:
        rpc.call("eth_chainId")
    assert_no_token(caught.value)


@pytest.mark.parametrize("fault", [b"[]", b"[1, 2]", b'[{"id": 0, "result": "0x1"}]', b"{}", 502, "half"])
def test_a_batch_that_is_answered_with_something_else(proxy: Proxy, fault: Any) -> None:
    """Two requests need two answers."""
    rpc = new_rpc(proxy)
    proxy.faults = [fault]
    with pytest.raises(NodeUnreachable):
        rpc.batch([("eth_chainId", []), ("eth_blockNumber", [])])


def test_an_idle_connection_that_was_closed(proxy: Proxy) -> None:
    """Is opened again, at once and unnoticed, for a read."""
    rpc = new_rpc(proxy)
    proxy.faults = [None, "cut", None, "refuse"]
    assert [chain_id(rpc), chain_id(rpc)] == [31337, 31337]
    assert len(proxy.methods) == 3
    assert chain_id(rpc) == 31337


def test_errors_of_the_node_are_not_failures_of_the_way(start_proxy: Callable[[], Proxy]) -> None:
    """Another URL would say the same; code and data are kept."""
    first, second = start_proxy(), start_proxy()
    with pytest.raises(RpcError, match="Method not found") as caught:
        new_rpc(first, second).call("eth_nonsense")
    assert caught.value.rpc_code == -32601
    assert second.methods == []


def test_a_batch_is_one_request_with_errors_in_their_places(proxy: Proxy) -> None:
    """In the order of the questions."""
    one, bad, two = new_rpc(proxy).batch([("eth_chainId", []), ("eth_nonsense", []), ("eth_blockNumber", [])])
    assert (one, two) == ("0x7a69", "0x0")
    assert isinstance(bad, RpcError)
    assert len(proxy.bodies) == 1


def test_a_node_without_batches(proxy: Proxy) -> None:
    """Is asked one by one, from then on."""
    rpc = new_rpc(proxy)
    proxy.faults = ["no batch"]
    for _ in range(2):
        assert rpc.batch([("eth_chainId", []), ("eth_blockNumber", [])]) == ["0x7a69", "0x0"]
    assert [isinstance(body, list) for body in proxy.bodies] == [True, False, False, False, False]


def test_a_large_batch_is_cut_in_hundreds(proxy: Proxy) -> None:
    """Providers limit the size of a batch."""
    assert new_rpc(proxy).batch([("eth_chainId", [])] * 250) == ["0x7a69"] * 250
    assert [len(body) for body in proxy.bodies] == [100, 100, 50]


# --- nodes that want to be left alone ------------------------------------------------------------


@pytest.mark.parametrize("wish", ["30", formatdate(2**31, usegmt=True), "100000"])
def test_retry_after_is_honoured(proxy: Proxy, wish: str) -> None:
    """Until then nothing is asked, and the reason is told; more than a minute is not believed."""
    rpc = new_rpc(proxy)
    proxy.faults = [(429, {"Retry_After": wish})]
    with pytest.raises(NodeUnreachable, match="answered HTTP 429"):
        rpc.call("eth_chainId")
    with pytest.raises(NodeUnreachable, match=r"wants no requests for (30|60) s"):
        rpc.call("eth_chainId")
    assert len(proxy.bodies) == 1


@pytest.mark.parametrize("wish", ["0", "soon", formatdate(0, usegmt=True)])
def test_a_pause_ends(proxy: Proxy, wish: str) -> None:
    """At once, or after the second that a wish nobody understands is worth."""
    rpc = new_rpc(proxy)
    proxy.faults = [(503, {"Retry_After": wish})]
    with pytest.raises(NodeUnreachable):
        rpc.call("eth_chainId")
    found = None
    while found is None:  # the test's time-out ends it
        try:
            found = chain_id(rpc)
        except NodeUnreachable as exc:
            assert "wants no requests" in str(exc)
    assert found == 31337


def test_limit_exceeded_is_a_pause_too(start_proxy: Callable[[], Proxy]) -> None:
    """Some providers say so in JSON-RPC, with HTTP status 200."""
    first, second = start_proxy(), start_proxy()
    first.faults = [
        b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32005, "message": "daily request count"}}'
    ]
    assert chain_id(new_rpc(first, second)) == 31337
    assert len(second.bodies) == 1


def test_a_url_that_failed_comes_after_the_others(start_proxy: Callable[[], Proxy]) -> None:
    """For a while: its time-out is not waited for again and again; then the first is the first again."""
    first, second = start_proxy(), start_proxy()
    rpc = new_rpc(first, second)
    first.faults = ["hang"]
    for _ in range(5):
        chain_id(rpc)
    assert (len(first.bodies), len(second.bodies)) == (1, 5)
    while len(first.bodies) == 1:  # the test's time-out ends it
        chain_id(rpc)


def test_reconnects_are_counted(start_proxy: Callable[[], Proxy]) -> None:
    """A change of node, and the return of a lost one: what was checked before is stale."""
    first, second = start_proxy(), start_proxy()
    rpc = new_rpc(first, second)
    seen = []
    for fault in (None, None, 502):
        first.faults = [fault]
        chain_id(rpc)
        seen.append(rpc.reconnects)
    assert seen == [1, 1, 2]


# --- tokens --------------------------------------------------------------------------------------


def test_no_log_line_shows_the_token(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at DEBUG, where web3 and urllib3 print URLs."""
    with caplog.at_level(logging.DEBUG):
        rpc = new_rpc(proxy)
        proxy.faults = [None, 502, "half"]
        chain_id(rpc)
        for _ in range(2):
            with pytest.raises(NodeUnreachable):
                rpc.batch([("eth_chainId", []), ("eth_blockNumber", [])])
    assert "HTTP" in caplog.text
    assert TOKEN not in caplog.text


def test_no_repr_shows_the_token(proxy: Proxy) -> None:
    """Which is what tracebacks with local variables print."""
    rpc = new_rpc(proxy)
    chain_id(rpc)
    seen: list[Any] = [
        rpc,
        *vars(rpc).values(),
        *(value for one in rpc._endpoints for value in vars(one).values()),
    ]
    assert TOKEN not in "".join(map(repr, seen))


def test_a_node_that_repeats_the_token(proxy: Proxy) -> None:
    """In an error of its own."""
    error = {"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": f"unknown project {TOKEN}"}}
    proxy.faults = [json.dumps(error).encode()]
    with pytest.raises(RpcError, match=r"unknown project \*\*\*"):
        new_rpc(proxy).call("eth_chainId")


def assert_no_token(error: BaseException) -> None:
    """Neither in the messages nor in the local variables of the frames in this package."""
    assert error.__cause__ is None
    assert error.__context__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in told.stack if "/pipeline/" in frame.filename]
    assert frames
    assert TOKEN not in str(error) + "".join(str(frame.locals) for frame in frames)

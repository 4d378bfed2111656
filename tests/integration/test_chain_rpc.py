"""Promise: whatever a node or the way to it does, a read goes to the next URL or says that no node
answers, a send never goes out twice by itself nor counts as refused when it may have arrived, and no
token is shown."""

from __future__ import annotations

import http.client
import json
import logging
import secrets
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.chain.answers import AnswerKind
from pipeline.chain.client import ChainClient
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.errors import NodeUnreachable
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

TOKEN = "abcdef0123456789"
GARBAGE: dict[str, bytes] = {
    "HTML": b"<html>please log in</html>",
    "half of an object": b'{"jsonrpc": "2.0", "id": 0, "resu',
    "nothing": b"",
    "a number": b"5",
    "a string": b'"yes"',
    "null": b"null",
    "an object of other kind": b'{"hello": "world"}',
    "an error that is text": b'{"jsonrpc": "2.0", "id": 0, "error": "no"}',
    "an empty list": b"[]",
    "a list of numbers": b"[1, 2]",
    "no UTF-8": b"\xff\xfe",
}


class Proxy:
    """An HTTP server before a node that does what `faults` say, one for each request, then behaves.

    Faults: ``cut`` (the node gets it, the answer is lost), ``half`` (so is the second half of the answer),
    ``refuse`` (closed unread), ``hang``, ``no batch``, an HTTP status, a status with headers, or a body.
    """

    def __init__(self, target: Anvil) -> None:
        self.target = target
        self.faults: list[Any] = []
        self.bodies: list[Any] = []
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """With a token in it."""
        return f"http://127.0.0.1:{self.port}/v3/{TOKEN}"

    @property
    def methods(self) -> list[str]:
        """What was asked, request by request."""
        return [one["method"] for body in self.bodies for one in (body if isinstance(body, list) else [body])]

    def next_fault(self) -> Any:
        """What to do to this request; None: pass it on."""
        return self.faults.pop(0) if self.faults else None

    def pass_on(self, body: bytes) -> bytes:
        """The node's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target.port)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        connection.close()
        return answer

    def hang(self) -> None:
        """Until the test ends."""
        self._released.wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_POST(self) -> None:
        fault = self.proxy.next_fault()
        if fault == "refuse":
            self._close()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.proxy.bodies.append(json.loads(body))
        if fault == "hang":
            self.proxy.hang()
            self._close()
        elif fault == "cut":
            self.proxy.pass_on(body)
            self._close()
        elif fault == "half":
            answer = self.proxy.pass_on(body)
            self._respond(200, answer[: len(answer) // 2], length=len(answer))
            self._close()
        elif fault == "no batch" and body.startswith(b"["):
            self._respond(
                200, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "batch?"}}'
            )
        elif isinstance(fault, int):
            self._respond(fault, b"oops")
        elif isinstance(fault, tuple):
            self._respond(fault[0], fault[2] if len(fault) > 2 else b"oops", **fault[1])
        elif isinstance(fault, bytes):
            self._respond(200, fault)
        else:
            self._respond(200, self.proxy.pass_on(body))

    def _respond(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for every request."""


@pytest.fixture
def start_proxy(anvil: Anvil) -> Iterator[Callable[[], Proxy]]:
    """Start a proxy before the test's anvil."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Proxy(anvil))


@pytest.fixture
def proxy(start_proxy: Callable[[], Proxy]) -> Proxy:
    """One proxy."""
    return start_proxy()


def new_rpc(*proxies: Proxy) -> RpcClient:
    """A client of these, in this order, that waits half a second for an answer."""
    return RpcClient([proxy.url for proxy in proxies], timeout_seconds=(0.5, 0.5))


def chain_id(rpc: RpcClient) -> int:
    """A read."""
    return int(rpc.call("eth_chainId"), 16)


def anchors(proxy: Proxy) -> tuple[ChainClient, list[bytes]]:
    """A client with a registry, and three signed anchors with consecutive nonces."""
    anvil = proxy.target
    usual = {"blockchain_private_key": anvil.private_key, "blockchain_chain_id": anvil.chain_id}
    deployed = ChainClient(Settings(blockchain_rpc_url=anvil.rpc_url, **usual)).deploy()
    client = ChainClient(
        Settings(blockchain_contract_address=deployed.contract_address, **usual), rpc=new_rpc(proxy)
    )
    client.check_guards()
    fees = client.fees()
    return client, [
        client.prepare_anchor(secrets.token_bytes(32), 1 + number, fees).raw for number in range(3)
    ]


# --- reads ---------------------------------------------------------------------------------------

#: What providers say, in JSON-RPC, of a token that is no more, or not paid for.
REVOKED = b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32600, "message": "Must be authenticated!"}}'

FAULTS = [
    "hang",
    "half",
    *(429, 500, 502, 503, 403),
    *((status, {}, REVOKED) for status in (401, 402, 403, 407)),
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


# --- nodes that want to be left alone -------------------------------------------------------------


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


# --- sends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "half"])
def test_a_lost_reply_is_unknown_and_sent_once(proxy: Proxy, fault: str) -> None:
    """The transaction is there; the same bytes again find it, and the next nonces go on."""
    client, raws = anchors(proxy)
    proxy.target.rpc("evm_setAutomine", False)
    proxy.faults = [fault]
    assert client.send(raws[0]).kind is AnswerKind.UNKNOWN
    assert proxy.methods.count("eth_sendRawTransaction") == 1
    assert client.transaction_counts() == (1, 2)
    assert client.send(raws[0]).kind is AnswerKind.ALREADY_KNOWN
    assert [client.send(raw).kind for raw in raws[1:]] == [AnswerKind.ACCEPTED] * 2


@pytest.mark.parametrize("fault", ["refuse", "hang", 429, 502, *GARBAGE.values()])
def test_a_send_without_answer_is_unknown(proxy: Proxy, fault: Any) -> None:
    """No exception, nothing sent twice, no token in the text."""
    client, raws = anchors(proxy)
    proxy.faults = [fault]
    before = len(proxy.bodies)
    answer = client.send(raws[0])
    assert answer.kind is AnswerKind.UNKNOWN
    assert answer.text.startswith(f"http://127.0.0.1:{proxy.port}/*** ")
    assert len(proxy.bodies) - before <= 1


def test_a_send_goes_to_the_next_url(start_proxy: Callable[[], Proxy]) -> None:
    """The same bytes: two nodes can not make two transactions of them."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    first.faults = ["refuse", "cut"]
    rpc = new_rpc(first, second)
    assert rpc.broadcast(raws[0]).kind is AnswerKind.ACCEPTED


def test_a_refusal_after_a_lost_reply_is_unknown(start_proxy: Callable[[], Proxy]) -> None:
    """The first node may have taken what the second refuses."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    refusal = b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": "invalid sender"}}'
    first.faults, second.faults = [502], [refusal]
    answer = new_rpc(first, second).broadcast(raws[0])
    assert answer.kind is AnswerKind.UNKNOWN
    assert "answered HTTP 502" in answer.text
    assert "invalid sender" in answer.text
    first.faults, second.faults = [429], [refusal]
    assert new_rpc(first, second).broadcast(raws[0]).kind is AnswerKind.FATAL


def test_a_hundred_lost_replies(proxy: Proxy) -> None:
    """A hundred transactions, a hundred nonces, each sent again once."""
    client, _ = anchors(proxy)
    fees = client.fees()
    transactions = [client.prepare_anchor(secrets.token_bytes(32), 1 + number, fees) for number in range(100)]
    for transaction in transactions:
        proxy.faults = ["cut"]
        assert client.send(transaction.raw).kind is AnswerKind.UNKNOWN
        # anvil mines a moment after it has answered.
        assert client.send(transaction.raw).kind in (AnswerKind.ALREADY_KNOWN, AnswerKind.NONCE_USED)
    while client.transaction_counts() != (101, 101):
        pass  # the test's time-out ends it
    receipts = client.receipts([transaction.hash for transaction in transactions])
    assert [receipt.status for receipt in receipts.values() if receipt] == [1] * 100


def test_requests_for_each_write(proxy: Proxy) -> None:
    """Guards, fees and gas are shared by many writes: hardly more than the send itself is left."""
    client, _ = anchors(proxy)
    nonce = client.transaction_counts()[1]
    proxy.bodies.clear()
    for number in range(50):
        client.check_guards()
        transaction = client.prepare_anchor(secrets.token_bytes(32), nonce + number, client.fees())
        assert client.send(transaction.raw).taken
    assert proxy.methods.count("eth_sendRawTransaction") == 50
    assert proxy.methods.count("eth_estimateGas") <= 1
    assert len(proxy.methods) <= 2 * 50
    assert len(proxy.bodies) <= 50 + 5


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

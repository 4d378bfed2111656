"""Promise: a receipt is valid, invalid, revoked or unknown by what nodes say, with the step that decided; no
node that is down, behind or elsewhere makes it invalid."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from pipeline import witness
from pipeline.chain.registry import revert_text
from pipeline.chain.rpc import RpcClient
from pipeline.proof import Verdict, check_receipt, verify
from tests.receipts import DOCUMENT, LEAF, OTHER, OTHER_ADDRESS, RECEIPT, ROOT, changed


class Node:
    """A node on loopback that has the receipt's registry; its attributes are what it says."""

    def __init__(self) -> None:
        self.chain_id: Any = 31337
        self.head = 20
        self.block_hashes = {17: RECEIPT["block_hash"]}
        self.address = RECEIPT["contract_address"].lower()
        self.version = "CredentialRegistry 1"
        self.anchors = {ROOT: (RECEIPT["issuer"], 1790000000)}
        self.revoked: set[str] = set()
        self.error: dict[str, Any] | None = None
        self.asked_at: set[str] = set()
        #: Send a space now and then, and no answer.
        self.drips = False
        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Nothing listens any more."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                batch = [node.answer(one) for one in asked] if isinstance(asked, list) else node.answer(asked)
                body = json.dumps(batch).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # the client has gone
                    while node.drips and not node._stopped.wait(0.1):
                        self.wfile.write(b" ")
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One JSON-RPC answer."""
        frame = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "eth_call" and self.error:
            return frame | {"error": self.error}
        results: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: self.chain_id if isinstance(self.chain_id, str) else hex(self.chain_id),
            "eth_getBlockByNumber": self.block,
            "eth_call": self.call,
        }
        return frame | {"result": results[request["method"]](*request["params"])}

    def block(self, which: str, _full: bool) -> dict[str, Any] | None:
        """A block, or null above the head."""
        number = self.head if which == "latest" else int(which, 16)
        if number > self.head:
            return None
        hash_ = self.block_hashes.get(number, "0x" + number.to_bytes(32).hex())
        return {"number": hex(number), "hash": hash_, "timestamp": hex(1790000000)}

    def call(self, call: dict[str, str], block: str) -> str:
        """What the registry answers; nothing where there is none."""
        self.asked_at.add(block)
        if call["to"].lower() != self.address:
            return "0x"
        data = bytes.fromhex(call["data"][2:])
        if data[:4] == keccak(text="version()")[:4]:
            return "0x" + encode(["string"], [self.version]).hex()
        words = decode(["bytes32"] * (len(data) // 32), data[4:])
        root, *leaf = ("0x" + word.hex() for word in words)
        if data[:4] == keccak(text="anchoredBy(bytes32)")[:4]:
            return "0x" + encode(["address", "uint256"], self.anchors.get(root, ("0x" + "00" * 20, 0))).hex()
        assert data[:4] == keccak(text="isRevoked(bytes32,bytes32)")[:4]
        return "0x" + encode(["bool"], [bool({root, *leaf} & self.revoked)]).hex()


@pytest.fixture
def new_node() -> Iterator[Callable[[], Node]]:
    """Starts nodes; they are stopped after the test."""
    nodes: list[Node] = []

    def start() -> Node:
        nodes.append(Node())
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def node(new_node: Callable[[], Node]) -> Node:
    """A sound one."""
    return new_node()


def test_an_anchored_credential_is_valid(node: Node) -> None:
    """All asked at one block."""
    assert verify(RECEIPT, DOCUMENT, rpc_urls=[node.url]) == Verdict("valid")
    assert node.asked_at == {hex(node.head)}
    assert verify(check_receipt(RECEIPT), rpc_urls=[node.url]).verdict == "valid"


def test_no_node_is_asked_about_what_is_wrong_by_itself(node: Node) -> None:
    """The registry can not make it right."""
    assert verify(changed(leaf=OTHER), rpc_urls=[node.url]).step == "leaf"
    assert node.asked_at == set()


def test_addresses_are_the_same_in_any_case(node: Node) -> None:
    """EIP-55's upper-case letters are a checksum."""
    receipt = changed(issuer=RECEIPT["issuer"].lower(), contract_address=RECEIPT["contract_address"].lower())
    assert verify(receipt, rpc_urls=[node.url]).verdict == "valid"


def test_a_root_that_the_registry_does_not_have_is_invalid(node: Node) -> None:
    """Once the node is past the receipt's block."""
    node.anchors.clear()
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("invalid", "registry")


def test_another_contract_is_invalid(node: Node) -> None:
    """None at that address, or one that is no registry."""
    found = verify(changed(contract_address=OTHER_ADDRESS), rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("invalid", "registry")
    node.version = "Something else 1"
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("invalid", "registry")
    node.error = {"code": 3, "message": "execution reverted"}
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("invalid", "registry")


def test_a_root_of_another_issuer_is_invalid(node: Node) -> None:
    """Whoever the receipt names must have anchored it."""
    node.anchors[ROOT] = (OTHER_ADDRESS, 1790000000)
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("invalid", "issuer")
    assert OTHER_ADDRESS in (found.reason or "")


@pytest.mark.parametrize("revoked", [ROOT, LEAF])
def test_a_revoked_one_is_revoked(node: Node, revoked: str) -> None:
    """Root or leaf."""
    node.revoked.add(revoked)
    found = verify(RECEIPT, DOCUMENT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("revoked", "revocation")


def test_a_block_that_moved_is_a_note(node: Node) -> None:
    """After a reorg the root is anchored in another block, at another time."""
    node.block_hashes.clear()
    node.anchors[ROOT] = (RECEIPT["issuer"], 1790000012)
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("valid", None)
    assert found.reason == "block 17 is another one now, anchored at 2026-09-21T14:13:32Z"
    node.head = 10
    assert verify(RECEIPT, rpc_urls=[node.url]).verdict == "valid"


def test_another_chain_is_unknown(node: Node) -> None:
    """The node's is not the receipt's."""
    node.chain_id = 1
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("unknown", "chain")
    assert "serves chain 1" in (found.reason or "")


def test_a_node_that_is_behind_is_unknown(node: Node) -> None:
    """Neither contract nor root are there yet."""
    node.head = 16
    node.anchors.clear()
    assert (verify(RECEIPT, rpc_urls=[node.url]).verdict) == "unknown"
    node.address = OTHER_ADDRESS
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("unknown", "registry")
    assert "is at block 16, the receipt is of block 17" in (found.reason or "")


def test_no_answer_is_unknown(node: Node) -> None:
    """Down, or none named; the token in its URL stays out of the reason."""
    node.stop()
    found = verify(RECEIPT, rpc_urls=[node.url + "/v3/hunter2hunter2"])
    assert (found.verdict, found.step) == ("unknown", "chain")
    assert "hunter2" not in (found.reason or "")
    assert verify(RECEIPT, rpc_urls=[]).verdict == "unknown"


def test_an_answer_that_is_none_is_unknown(node: Node) -> None:
    """An error of the node, or something that can not be read."""
    node.error = {"code": -32000, "message": "header not found"}
    assert verify(RECEIPT, rpc_urls=[node.url]).verdict == "unknown"
    node.chain_id = "something"
    assert verify(RECEIPT, rpc_urls=[node.url]).verdict == "unknown"


@pytest.mark.parametrize(
    "words",
    [
        "out of gas: daily compute quota used up",
        "EVM error Database error: upstream down",
        "failed to run: stack overflow in worker thread",
        "method eth_call is not available; transaction reverted by policy",
    ],
)
def test_words_alone_do_not_contradict(node: Node, words: str) -> None:
    """Only geth's code or revert data show that the node has run the call."""
    node.error = {"code": -32000, "message": words}
    found = verify(RECEIPT, rpc_urls=[node.url])
    assert (found.verdict, found.step) == ("unknown", "chain")
    assert words in (found.reason or "")
    node.error["data"] = "0x"
    assert verify(RECEIPT, rpc_urls=[node.url]).verdict == "invalid"


def test_a_nodes_name_is_not_what_it_says(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins the message of each of its errors."""
    resolve, host = socket.getaddrinfo, "rpc.revert.example"
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda name, *more: resolve("127.0.0.1" if name == host else name, *more),
    )
    node.error = {"code": -32000, "message": "header not found"}
    url = node.url.replace("127.0.0.1", host)
    found = verify(RECEIPT, rpc_urls=[url])
    assert found.verdict == "unknown"
    assert f"{url}: header not found" in (found.reason or "")
    [error] = RpcClient([url]).batch([("eth_call", [{"to": node.address, "data": "0x"}, "latest"])])
    assert revert_text(error) is None


@pytest.mark.parametrize("first", [True, False])
def test_a_node_that_can_not_tell_does_not_outweigh_one_that_can(
    new_node: Callable[[], Node], first: bool
) -> None:
    """Behind, of another chain, or down: a note."""
    good, behind, elsewhere, down = (new_node() for _ in range(4))
    behind.head, elsewhere.chain_id = 0, 5
    behind.address = OTHER_ADDRESS
    down.stop()
    urls = [good.url, behind.url, elsewhere.url, down.url]
    found = verify(RECEIPT, rpc_urls=urls if first else urls[::-1])
    assert (found.verdict, found.step) == ("valid", None)
    assert (found.reason or "").count("a node could not tell") == 3
    good.revoked.add(LEAF)
    assert verify(RECEIPT, rpc_urls=urls).verdict == "revoked"


def test_a_node_that_never_ends_its_answer(
    new_node: Callable[[], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is waited for so long, and those behind it are asked all the same."""
    monkeypatch.setattr(witness, "DEADLINE_SECONDS", 2.0)
    dripping, good = new_node(), new_node()
    dripping.drips = True
    found = verify(RECEIPT, rpc_urls=[dripping.url + "/v3/hunter2hunter2"])
    assert (found.verdict, found.step) == ("unknown", "chain")
    late = f"a node could not tell: {dripping.url}/*** did not answer within 2 s altogether"
    assert found.reason == late
    found = verify(RECEIPT, rpc_urls=[dripping.url + "/v3/hunter2hunter2", good.url])
    assert found == Verdict("valid", reason=late)


def test_a_process_ends_while_a_node_does_not(node: Node) -> None:
    """Its thread is not waited for."""
    node.drips = True
    code = (
        "import sys, json; from pipeline import proof, witness\n"
        "witness.DEADLINE_SECONDS = 0.5\n"
        "print(proof.verify(json.loads(sys.stdin.read()), rpc_urls=sys.argv[1:]).verdict)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, node.url],
        input=json.dumps(RECEIPT),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("unknown", "")


def test_what_asking_raises_is_raised(node: Node) -> None:
    """Though it happens in a thread."""
    with pytest.raises(ValueError, match="Port out of range"):
        verify(RECEIPT, rpc_urls=[node.url, "http://127.0.0.1:99999"])


def test_nodes_that_disagree_are_unknown(new_node: Callable[[], Node]) -> None:
    """One of them lies, or is on a fork."""
    good, other = new_node(), new_node()
    other.anchors.clear()
    found = verify(RECEIPT, rpc_urls=[good.url, other.url])
    assert (found.verdict, found.step) == ("unknown", "registry")
    assert "disagree" in (found.reason or "")
    good.anchors.clear()
    assert verify(RECEIPT, rpc_urls=[good.url, other.url]).verdict == "invalid"


def test_a_verifier_needs_no_queue() -> None:
    """No database, no Redis: those are not even imported, also when nodes are asked."""
    code = (
        "import sys, json; from pipeline.proof import verify\n"
        "verify(json.loads(sys.stdin.read()), rpc_urls=['http://127.0.0.1:9'])\n"
        "print({'dramatiq', 'redis', 'peewee', 'psycopg', 'sentry_sdk'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(RECEIPT), capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"

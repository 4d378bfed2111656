"""Promise: a verdict is valid, invalid, revoked or unknown, with the step that decided; nothing that
contradicts a receipt is passed over, and no node that is down, behind or elsewhere makes it invalid."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import pipeline
from pipeline import merkle
from pipeline.errors import InvalidReceipt
from pipeline.hashing import canonical, document_hash, document_text, parse_document
from pipeline.proof import (
    Anchoring,
    Verdict,
    build_receipt,
    check_receipt,
    parse_receipt,
    verify,
    verify_offline,
)

FIXTURES = Path(__file__).parent / "fixtures"
SCHEMA = json.loads((Path(pipeline.__file__).parent / "receipt.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

#: A receipt and its document as the first version made them: every later one has to verify it.
RECEIPT: dict[str, Any] = json.loads((FIXTURES / "receipt_v1.json").read_text())
DOCUMENT = (FIXTURES / "receipt_v1.document.json").read_bytes()

ROOT, LEAF = RECEIPT["merkle_root"], RECEIPT["leaf"]
OTHER = "0x" + "ab" * 32
OTHER_ADDRESS = "0x" + "ab" * 20


def changed(**parts: Any) -> dict[str, Any]:
    """The receipt with other values; None takes a key out."""
    found = copy.deepcopy(RECEIPT) | parts
    return {key: value for key, value in found.items() if value is not ...}


def with_leaf_value(place: int, value: Any) -> dict[str, Any]:
    """The receipt with another value in its leaf."""
    receipt = changed()
    receipt["leaf_values"][place] = value
    return receipt


def mocked() -> dict[str, Any]:
    """A receipt of a mock write."""
    return build_receipt(
        credential_id="c-1",
        data_hash="ab" * 32,
        ipfs_cid=None,
        salt=bytes(32),
        merkle_proof=[],
        merkle_root=merkle.leaf_hash("c-1", b"\xab" * 32, "", bytes(32)),
        anchoring=None,
        final=False,
        document_checked=False,
    )


# --- the receipt -----------------------------------------------------------------------------


def test_a_receipt_has_the_promised_keys() -> None:
    """In the order of the documentation; nothing else."""
    assert list(RECEIPT) == [
        "type",
        "version",
        "mock",
        "final",
        "document_checked",
        "hash_algorithm",
        "canonicalization",
        "leaf_encoding",
        "leaf_values",
        "leaf",
        "merkle_proof",
        "merkle_root",
        "chain_id",
        "contract_address",
        "issuer",
        "transaction_hash",
        "block_number",
        "block_hash",
        "block_time",
    ]
    assert list(mocked()) == list(RECEIPT)
    assert list(SCHEMA["required"]) == list(RECEIPT)


def test_a_receipt_is_read_and_written_alike() -> None:
    """What is built, read and written again is the same."""
    assert check_receipt(RECEIPT).as_json() == RECEIPT
    assert check_receipt(mocked()).as_json() == mocked()
    assert (RECEIPT["chain_id"], RECEIPT["block_time"]) == ("eip155:31337", "2026-09-21T14:13:20Z")


def test_the_schema_is_one_and_takes_receipts() -> None:
    """Of real and of mock writes."""
    Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(RECEIPT)
    VALIDATOR.validate(mocked())
    VALIDATOR.validate(changed(something_new=1))


def test_parts_that_do_not_belong_together_make_no_receipt() -> None:
    """A receipt that does not verify must not leave."""
    receipt = check_receipt(RECEIPT)
    with pytest.raises(InvalidReceipt, match="does not lead to"):
        build_receipt(
            credential_id=receipt.credential_id,
            data_hash=receipt.data_hash.hex(),
            ipfs_cid=None,
            salt=receipt.salt,
            merkle_proof=receipt.merkle_proof,
            merkle_root=receipt.merkle_root,
            anchoring=receipt.anchoring,
            final=True,
            document_checked=True,
        )


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        "receipt",
        {},
        {"type": "x"},
        changed(type=...),
        changed(type="Credential-pipeline-receipt"),
        changed(version=...),
        changed(version=2),
        changed(version="1"),
        changed(version=True),
        changed(version=1.0),
    ],
)
def test_what_is_no_receipt_at_all(found: object) -> None:
    """Another thing, or a version from the future: there is no verdict on it."""
    for read in (check_receipt, verify_offline, lambda found: verify(found, rpc_urls=[])):
        with pytest.raises(InvalidReceipt, match="receipt: "):
            read(found)


DAMAGED: list[dict[str, Any]] = [
    *(changed(**{key: ...}) for key in RECEIPT if key not in ("type", "version")),
    changed(mock=0),
    changed(mock=None),
    changed(mock=True),
    changed(final="true"),
    changed(document_checked=1),
    changed(hash_algorithm="sha-512"),
    changed(canonicalization="none"),
    changed(leaf_encoding=["string"]),
    changed(leaf_values={}),
    changed(leaf_values=RECEIPT["leaf_values"][:3]),
    changed(leaf_values=[*RECEIPT["leaf_values"], ""]),
    with_leaf_value(0, ""),
    with_leaf_value(0, "a\0"),
    with_leaf_value(0, "a" * 256),
    with_leaf_value(0, 1),
    with_leaf_value(1, "ab" * 32),
    with_leaf_value(1, "0x" + "ab" * 31),
    with_leaf_value(2, None),
    with_leaf_value(2, "a b"),
    with_leaf_value(2, "é"),
    with_leaf_value(2, "a" * 1025),
    with_leaf_value(3, "0x" + "zz" * 32),
    changed(leaf=LEAF[2:]),
    changed(leaf=LEAF + "0"),
    changed(leaf=7),
    changed(merkle_proof={}),
    changed(merkle_proof="0x"),
    changed(merkle_proof=[OTHER[:-1]]),
    changed(merkle_proof=[None]),
    changed(merkle_proof=[OTHER] * 33),
    changed(merkle_root="0x"),
    changed(chain_id=31337),
    changed(chain_id="eip155:0"),
    changed(chain_id="eip155:"),
    changed(chain_id="solana:1"),
    changed(chain_id=None),
    changed(contract_address=OTHER),
    changed(contract_address=OTHER_ADDRESS[2:]),
    changed(contract_address=None),
    changed(issuer=""),
    changed(issuer=None),
    changed(transaction_hash="0x12"),
    changed(transaction_hash=None),
    changed(block_number=-1),
    changed(block_number="17"),
    changed(block_number=1.5),
    changed(block_number=True),
    changed(block_number=None),
    changed(block_hash=None),
    changed(block_time=1790000000),
    changed(block_time="2026-09-21 14:13:20"),
    changed(block_time="2026-09-21T14:13:20+00:00"),
    changed(block_time=None),
    mocked() | {"chain_id": "eip155:1"},
    mocked() | {"block_number": 0},
    mocked() | {"issuer": OTHER_ADDRESS},
    {key: value for key, value in mocked().items() if key != "block_time"},
]


@pytest.mark.parametrize("receipt", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_receipt_is_invalid(receipt: dict[str, Any]) -> None:
    """It calls itself one, so there is a verdict; the schema says the same."""
    with pytest.raises(InvalidReceipt) as caught:
        check_receipt(receipt)
    assert caught.value.permanent
    found = verify(receipt, DOCUMENT, rpc_urls=["http://127.0.0.1:9"])
    assert (found.verdict, found.step) == ("invalid", "receipt")
    assert found.reason == caught.value.message
    assert not VALIDATOR.is_valid(receipt)


def test_a_time_that_no_calendar_has_is_refused() -> None:
    """A schema's pattern can not tell."""
    with pytest.raises(InvalidReceipt, match="block_time: must be a UTC time"):
        check_receipt(changed(block_time="2026-02-30T00:00:00Z"))


JUNK = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        1.5,
        "",
        "0x",
        "x",
        [],
        {},
        OTHER,
        OTHER_ADDRESS,
        [OTHER],
        "eip155:1",
        ROOT[2:],
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.booleans(), st.lists(st.tuples(st.sampled_from(list(RECEIPT)[2:]), JUNK), min_size=1, max_size=3))
def test_schema_and_program_agree(mock: bool, changes: list[tuple[str, Any]]) -> None:
    """Whatever takes the place of a value."""
    receipt = copy.deepcopy(mocked() if mock else RECEIPT)
    receipt.update(changes)
    try:
        check_receipt(receipt)
    except InvalidReceipt:
        assert not VALIDATOR.is_valid(receipt)
    else:
        assert VALIDATOR.is_valid(receipt)


def test_a_receipt_is_read_from_text() -> None:
    """Text or bytes, as strictly as a document."""
    for text in (json.dumps(RECEIPT), json.dumps(RECEIPT, indent=1).encode()):
        assert parse_receipt(text) == RECEIPT


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        ("[]", "is not an object with the type"),
        ("{}", "is not an object with the type"),
        (json.dumps(changed(version=2)), "has the version '2'"),
        (json.dumps(RECEIPT)[:-1] + ', "leaf": "0x"}', "has the key 'leaf' twice"),
        (json.dumps(changed(more=float("nan"))), "$.more is NaN"),
        ("[" * 60_000, "nested deeper"),
        (json.dumps(changed(more="x" * 70_000)), "larger than 65,536 bytes"),
    ],
)
def test_text_that_is_no_receipt(text: str | bytes, fault: str) -> None:
    """Another thing altogether."""
    with pytest.raises(InvalidReceipt) as caught:
        parse_receipt(text)
    assert fault in str(caught.value)


# --- without a node --------------------------------------------------------------------------


def test_the_first_receipt_verifies_for_ever() -> None:
    """With its document, as text or bytes, in its own spelling or the canonical one; or without."""
    form = canonical(parse_document(DOCUMENT))
    assert b"100000000000000000000" in form
    for document in (DOCUMENT, DOCUMENT.decode(), form, document_text(parse_document(DOCUMENT)), None):
        assert verify_offline(RECEIPT, document) == Verdict("valid")
    assert verify_offline(check_receipt(RECEIPT), DOCUMENT) == Verdict("valid")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (DOCUMENT.replace(b"1.3", b"1.4"), "the document's hash is"),
        (b"{}", "the document's hash is"),
        (b"", "is not JSON"),
        (b"[]", "a document is an object"),
        (DOCUMENT[:-3], "is not JSON"),
        (
            DOCUMENT.replace(b'"type"', b'"issuer": "did:web:uni.example", "type"'),
            "has the key 'issuer' twice",
        ),
        ('{"a": "\ud800"}', "a lone surrogate"),
    ],
)
def test_another_document_is_invalid(document: bytes | str, reason: str) -> None:
    """Also one that is no document."""
    found = verify_offline(RECEIPT, document)
    assert (found.verdict, found.step) == ("invalid", "document")
    assert reason in (found.reason or "")


@pytest.mark.parametrize(
    ("receipt", "step"),
    [
        (with_leaf_value(0, "another"), "leaf"),
        (with_leaf_value(1, OTHER), "leaf"),
        (with_leaf_value(2, ""), "leaf"),
        (with_leaf_value(3, OTHER), "leaf"),
        (changed(leaf=OTHER), "leaf"),
        (changed(merkle_root=OTHER), "proof"),
        (changed(merkle_proof=RECEIPT["merkle_proof"][:-1]), "proof"),
        (changed(merkle_proof=RECEIPT["merkle_proof"][1:]), "proof"),
        (changed(merkle_proof=RECEIPT["merkle_proof"][::-1]), "proof"),
        (changed(merkle_proof=[*RECEIPT["merkle_proof"], OTHER]), "proof"),
        (changed(merkle_proof=[]), "proof"),
    ],
)
def test_a_changed_receipt_is_invalid_at_its_step(receipt: dict[str, Any], step: str) -> None:
    """Each part is bound to the next."""
    assert verify_offline(receipt).step == step
    assert verify(receipt, rpc_urls=[]).verdict == "invalid"


def test_an_inner_node_passed_off_as_a_leaf_is_invalid() -> None:
    """Its siblings lead to the root, but no values lead to it."""
    leaf, (sibling, *rest) = bytes.fromhex(LEAF[2:]), RECEIPT["merkle_proof"]
    inner = merkle.root_of(leaf, [bytes.fromhex(sibling[2:])])
    assert merkle.root_of(inner, [bytes.fromhex(one[2:]) for one in rest]) == bytes.fromhex(ROOT[2:])
    found = verify_offline(changed(leaf="0x" + inner.hex(), merkle_proof=rest))
    assert (found.verdict, found.step) == ("invalid", "leaf")


@settings(deadline=None)
@given(
    st.sampled_from(["data hash", "salt", "leaf", "root", "proof"]), st.integers(0, 2), st.integers(0, 255)
)
def test_one_flipped_bit_is_invalid(part: str, place: int, bit: int) -> None:
    """Anywhere in what is hashed."""

    def flipped(text: str) -> str:
        return "0x" + (int(text, 16) ^ (1 << bit)).to_bytes(32).hex()

    receipt = changed()
    if part in ("data hash", "salt"):
        number = 1 if part == "data hash" else 3
        receipt["leaf_values"][number] = flipped(receipt["leaf_values"][number])
    elif part == "proof":
        place %= len(receipt["merkle_proof"])
        receipt["merkle_proof"][place] = flipped(receipt["merkle_proof"][place])
    else:
        key = {"leaf": "leaf", "root": "merkle_root"}[part]
        receipt[key] = flipped(receipt[key])
    assert verify_offline(receipt, DOCUMENT).verdict == "invalid"


def test_a_mock_receipt_is_never_valid() -> None:
    """Though its leaf and proof are sound."""
    for found in (verify_offline(mocked()), verify(mocked(), rpc_urls=["http://127.0.0.1:9"])):
        assert (found.verdict, found.step) == ("invalid", "receipt")
        assert "mock" in (found.reason or "")


def test_a_mock_receipt_can_not_be_made_real_by_its_flag() -> None:
    """The chain is still missing."""
    found = verify_offline(mocked() | {"mock": False})
    assert (found.verdict, found.step) == ("invalid", "receipt")


def test_a_verdict_as_json() -> None:
    """What the command line prints."""
    assert Verdict("invalid", "leaf", "why").as_json() == {
        "verdict": "invalid",
        "step": "leaf",
        "reason": "why",
    }
    assert Verdict("valid").as_json() == {"verdict": "valid", "step": None, "reason": None}


# --- with nodes ------------------------------------------------------------------------------


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
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Nothing listens any more."""
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


def test_any_number_of_leaves() -> None:
    """Batches of one, two, three and a thousand: every receipt verifies offline, alone."""
    for size in (1, 2, 3, 1000):
        document = {"n": size}
        digest = document_hash(document)
        salts = [number.to_bytes(32) for number in range(size)]
        leaves = [merkle.leaf_hash(f"c-{n}", bytes.fromhex(digest), "", salt) for n, salt in enumerate(salts)]
        tree = merkle.MerkleTree(leaves)
        place = Anchoring(1, OTHER_ADDRESS, OTHER_ADDRESS, OTHER, 1, OTHER, 1)
        for number in range(0, size, 97):
            receipt = build_receipt(
                credential_id=f"c-{number}",
                data_hash=digest,
                ipfs_cid=None,
                salt=salts[number],
                merkle_proof=tree.proof(leaves[number]),
                merkle_root=tree.root,
                anchoring=place,
                final=False,
                document_checked=True,
            )
            VALIDATOR.validate(receipt)
            assert verify_offline(json.loads(json.dumps(receipt)), document_text(document)) == Verdict(
                "valid"
            )

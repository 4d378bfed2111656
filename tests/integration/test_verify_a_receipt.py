"""Promise: the example in docs/verify-a-receipt.md is true: every value, by other means than ours, and every
answer of a node."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from Crypto.Hash import keccak
from eth_abi.abi import encode

from pipeline import proof
from pipeline.errors import InvalidDocument
from pipeline.hashing import MAX_DOCUMENT_BYTES, canonical, parse_document
from pipeline.strict_json import MAX_DEPTH
from pipeline.verdict import Verdict
from tests import node
from tests.chain import registered
from tests.receipts import VALIDATOR
from tests.servers.anvil import Anvil

PAGE = (Path(__file__).parents[2] / "docs" / "verify-a-receipt.md").read_text()
ZERO, ONE = ("0x" + bytes([last]).rjust(32, b"\0").hex() for last in (0, 1))


def section(title: str) -> str:
    """The text below a heading that begins so."""
    _, rest = PAGE.split(f"\n## {title}")
    return rest.split("\n## ")[0]


def blocks(title: str, language: str) -> list[str]:
    """The blocks of code of a section."""
    return re.findall(rf"```{language}\n(.*?)```", section(title), flags=re.DOTALL)


def named(block: str) -> dict[str, str]:
    """The values of a block of ``name = value``."""
    return dict(re.findall(r"^([\w ]+?) += (.*)$", block, flags=re.MULTILINE))


def words(block: str) -> bytes:
    """The 32 bytes at the beginning of each line, joined."""
    return b"".join(bytes.fromhex(line[:64]) for line in block.splitlines())


def keccak256(data: bytes) -> bytes:
    """Keccak-256 of pycryptodome."""
    return keccak.new(data=data, digest_bits=256).digest()


def from_hex(text: str) -> bytes:
    """Bytes of ``0x`` and hex digits."""
    return bytes.fromhex(text.removeprefix("0x"))


def values(encoding: list[str], texts: list[str]) -> list[Any]:
    """What eth_abi takes for the texts of a receipt."""
    return [text if kind == "string" else from_hex(text) for kind, text in zip(encoding, texts, strict=True)]


DOCUMENT, RECEIPT_TEXT = blocks("The example", "json")
RECEIPT = json.loads(RECEIPT_TEXT)
REQUESTS = [json.loads(block) for title in ("Step 4", "Step 5") for block in blocks(title, "json")[::2]]
ANSWERS = [json.loads(block) for title in ("Step 4", "Step 5") for block in blocks(title, "json")[1::2]]
#: What a valid receipt can be wrong in.
UNPROVED = {
    "final": False,
    "document_checked": False,
    "transaction_hash": ONE,
    "block_number": 1,
    "block_hash": ONE,
    "block_time": "2026-01-31T12:00:01Z",
}


def test_step_1() -> None:
    """Document, canonical form by npm's canonicalize, its bytes, their hash."""
    (block,) = blocks("Step 1", "text")
    shown = named(block)
    [theirs] = node.ask("canonical.cjs", [DOCUMENT])
    assert theirs["form"] == shown["form"]
    assert shown["form"].encode() == from_hex(shown["bytes"])
    assert hashlib.sha256(from_hex(shown["bytes"])).digest() == from_hex(shown["data hash"])
    assert shown["data hash"] == RECEIPT["leaf_values"][1]


def test_numbers_and_limits() -> None:
    """An integer is one as it is written; and our own reader's limits are those of the page."""
    step, digits = section("Step 1"), str(10**20)
    assert f"`{digits}` is refused, `1e20` is not" in step
    assert canonical(parse_document('{"a": 1e20}')).decode() == f'{{"a":{digits}}}'
    with pytest.raises(InvalidDocument):
        parse_document(f'{{"a": {digits}}}')
    assert f"no `\\u0000` in a text, at most 1 MiB, at most {MAX_DEPTH} levels" in step
    assert MAX_DOCUMENT_BYTES == 1024 * 1024


def test_an_empty_cid() -> None:
    """Its length is the last word of step 2, and in step 4 the proof comes right after it."""
    assert "32 zero bytes, and no data after it" in section("Step 2")
    [first, hash_, _, salt] = values(RECEIPT["leaf_encoding"], RECEIPT["leaf_values"])
    encoded = encode(RECEIPT["leaf_encoding"], [first, hash_, "", salt])
    assert len(encoded) == 7 * 32
    assert encoded[-32:] == bytes(32)
    kinds = ["bytes32", "string", "bytes32", "string", "bytes32", "bytes32[]"]
    call = encode(kinds, [bytes(32), first, hash_, "", salt, []])
    assert f"begin at {int.from_bytes(call[5 * 32 : 6 * 32])} and not at 352" in section("Step 2")


def test_step_2() -> None:
    """The values in the ABI's form by eth_abi, and both keccaks."""
    encoded, hashes = blocks("Step 2", "text")
    encoding = RECEIPT["leaf_encoding"]
    assert words(encoded) == encode(encoding, values(encoding, RECEIPT["leaf_values"]))
    shown = named(hashes)
    assert keccak256(words(encoded)) == from_hex(shown["once"])
    assert keccak256(from_hex(shown["once"])) == from_hex(shown["twice"])
    assert shown["twice"] == RECEIPT["leaf"]


def test_step_3() -> None:
    """From the leaf over each sibling to the root; the example has one on either side."""
    above, sides = RECEIPT["leaf"], set()
    for block, sibling in zip(blocks("Step 3", "text"), RECEIPT["merkle_proof"], strict=True):
        shown = named(block)
        pair = [shown["smaller"], shown["larger"]]
        assert sorted(pair) == pair == sorted([above, sibling])
        assert keccak256(b"".join(map(from_hex, pair))) == from_hex(shown["node"])
        sides.add(pair.index(sibling))
        above = shown["node"]
        assert f"`{sibling[2:6]}…`" in section("Step 3")
    assert above == RECEIPT["merkle_root"]
    assert sides == {0, 1}


def test_step_4() -> None:
    """The call's data: four bytes of the function's name, and its arguments, by eth_abi."""
    _, arguments = blocks("Step 4", "text")
    (name,) = re.findall(r"`(verifyCredential\([^)]*\))`", section("Step 4"))
    selector = keccak256(name.encode())[:4]
    assert f"`{selector.hex()}`" in section("Step 4")
    root, siblings = from_hex(RECEIPT["merkle_root"]), [from_hex(one) for one in RECEIPT["merkle_proof"]]
    leaf_values = values(RECEIPT["leaf_encoding"], RECEIPT["leaf_values"])
    assert words(arguments) == encode(name[17:-1].split(","), [root, *leaf_values, siblings])
    assert call(REQUESTS[0]) == (RECEIPT["contract_address"], selector + words(arguments))


def test_step_5() -> None:
    """The other two calls, and what the answer of the first says."""
    root, leaf = from_hex(RECEIPT["merkle_root"]), from_hex(RECEIPT["leaf"])
    for request, name, data in zip(
        REQUESTS[1:], ("anchoredBy(bytes32)", "isRevoked(bytes32,bytes32)"), (root, root + leaf), strict=True
    ):
        assert call(request) == (RECEIPT["contract_address"], keccak256(name.encode())[:4] + data)
    answer = from_hex(ANSWERS[1]["result"])
    assert answer[12:32] == from_hex(RECEIPT["issuer"])
    assert f"{int.from_bytes(answer[32:])} s since 1970" in section("Step 5")


def call(request: dict[str, Any]) -> tuple[str, bytes]:
    """Whom an ``eth_call`` asks, and with which data."""
    assert (request["jsonrpc"], request["method"], request["params"][1]) == ("2.0", "eth_call", "latest")
    asked = request["params"][0]
    return asked["to"], from_hex(asked["data"])


def test_a_node_says_so(start_anvil: Callable[..., Anvil]) -> None:
    """Word for word, once the root is anchored; before that, and after a revocation, what the page says."""
    assert [answer["id"] for answer in ANSWERS] == [request["id"] for request in REQUESTS]
    anvil = start_anvil(more=["--timestamp=1769860000"])

    def said() -> list[str]:
        return [anvil.rpc(request["method"], *request["params"]) for request in REQUESTS]

    assert said() == ["0x"] * 3
    registry = registered(anvil).contract_address
    assert (registry, f"eip155:{anvil.chain_id}") == (RECEIPT["contract_address"], RECEIPT["chain_id"])
    assert said() == [ZERO, ZERO + ZERO[2:], ZERO]
    anvil.rpc("evm_setNextBlockTimestamp", 1769860800)
    transact(anvil, "anchor(bytes32)", RECEIPT["merkle_root"])
    assert said() == [answer["result"] for answer in ANSWERS]
    assert proof.verify(RECEIPT, DOCUMENT, rpc_urls=[anvil.rpc_url]).verdict == "valid"
    for name, other in UNPROVED.items():
        assert f"`{name}`" in section("What the flags say").split("Neither these steps")[1]
        assert RECEIPT[name] != other
        assert proof.verify(RECEIPT | {name: other}, rpc_urls=[anvil.rpc_url]).verdict == "valid"
    transact(anvil, "revokeLeaf(bytes32,bytes32)", RECEIPT["merkle_root"], RECEIPT["leaf"])
    assert said() == [ZERO, ANSWERS[1]["result"], ONE]


def transact(anvil: Anvil, name: str, *arguments: str) -> None:
    """Let the issuer call the registry."""
    data = keccak256(name.encode())[:4] + b"".join(map(from_hex, arguments))
    asked = {"from": RECEIPT["issuer"], "to": RECEIPT["contract_address"], "data": "0x" + data.hex()}
    transaction_hash = anvil.rpc("eth_sendTransaction", asked)
    mined = None
    while mined is None:  # the test's time-out ends it
        mined = anvil.rpc("eth_getTransactionReceipt", transaction_hash)
    assert mined["status"] == "0x1"


def test_the_receipt_is_one() -> None:
    """By the schema."""
    VALIDATOR.validate(RECEIPT)


def test_every_verdict_is_explained() -> None:
    """With each step at which ours ends, in the order in which it takes them."""
    hints = get_type_hints(Verdict)
    rows = re.findall(r"^\| ?(\w*) ?\|(.*)\|([^|]*)\|$", section("What to conclude"), flags=re.MULTILINE)
    explained = [verdict for verdict, *_ in rows[1:] if verdict]
    assert sorted(explained) == sorted(get_args(hints["verdict"]))
    steps = [step for *_, cell in rows[1:] for step in re.findall(r"`(\w+)`", cell)]
    literal, _none = get_args(hints["step"])
    assert set(steps) == set(get_args(literal))

"""Promise: without a node a verdict is valid or invalid, with the step that decided; nothing that
contradicts a receipt is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import merkle
from pipeline.hashing import canonical, document_hash, document_text, parse_document
from pipeline.proof import Anchoring, Verdict, build_receipt, check_receipt, verify, verify_offline
from tests.receipts import (
    DOCUMENT,
    LEAF,
    OTHER,
    OTHER_ADDRESS,
    RECEIPT,
    ROOT,
    VALIDATOR,
    changed,
    mocked,
    with_leaf_value,
)


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
    "document",
    ['{"a": "\\u0000"}', '{"\\u0000": 1}', b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", b" " * 2**20 + b"{}"],
)
def test_a_document_that_only_our_reader_refuses_is_unknown(document: bytes | str) -> None:
    """Somebody else may have hashed it; unless the receipt contradicts itself."""
    found = verify_offline(RECEIPT, document)
    assert (found.verdict, found.step) == ("unknown", "document")
    assert found.reason
    assert verify(RECEIPT, document, rpc_urls=[]) == found
    found = verify_offline(changed(leaf=OTHER), document)
    assert (found.verdict, found.step) == ("invalid", "leaf")


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

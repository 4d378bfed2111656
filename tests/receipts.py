"""A receipt and its document as the first version made them, and others made of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import pipeline
from pipeline import merkle
from pipeline.proof import build_receipt

FIXTURES = Path(__file__).parent / "unit" / "fixtures"
SCHEMA = json.loads((Path(pipeline.__file__).parent / "receipt.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

#: A receipt and its document as the first version made them: every later one has to verify it.
RECEIPT: dict[str, Any] = json.loads((FIXTURES / "receipt_v1.json").read_text())
DOCUMENT = (FIXTURES / "receipt_v1.document.json").read_bytes()

ROOT, LEAF = RECEIPT["merkle_root"], RECEIPT["leaf"]
OTHER = "0x" + "ab" * 32
OTHER_ADDRESS = "0x" + "ab" * 20


def changed(**parts: Any) -> dict[str, Any]:
    """The receipt with other values; ``...`` takes a key out."""
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

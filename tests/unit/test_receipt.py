"""Promise: a receipt has the promised keys, schema and program say the same of it, and what is damaged is
invalid, or no receipt at all."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.errors import InvalidReceipt
from pipeline.proof import build_receipt, check_receipt, parse_receipt, verify, verify_offline
from tests.receipts import (
    DOCUMENT,
    LEAF,
    OTHER,
    OTHER_ADDRESS,
    RECEIPT,
    ROOT,
    SCHEMA,
    VALIDATOR,
    changed,
    mocked,
    with_leaf_value,
)


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

"""Promise: what can not be anchored is refused where it enters, with field, value and rule; a write request
that passes is normal: one spelling of a hash, no empty CID."""

from __future__ import annotations

import unicodedata
from types import MappingProxyType

import multibase  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import (
    CidMismatch,
    InvalidCid,
    InvalidCredentialId,
    InvalidDataHash,
    InvalidInput,
    InvalidPriority,
)
from pipeline.intake import (
    CredentialRecord,
    WriteRequest,
    check_credential_id,
    check_data_hash,
    check_priority,
)
from tests.issuer import CID, DOCUMENT, HASH, OTHER_HASH


def raw_cid(digest: str) -> str:
    """The CID of a raw block with that SHA-256."""
    return str(multibase.encode("base32", b"\x01\x55\x12\x20" + bytes.fromhex(digest)).decode())


# --- credential id ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["a", "a" * 255, "\U0001f600" * 255, " ", "é/..?<script>", "\u2028", "urn:x"]
)
def test_credential_ids_that_pass(value: str) -> None:
    """1 to 255 characters, whatever they are, unless they are control characters."""
    assert check_credential_id(value) == value


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "must not be empty"),
        ("a" * 256, "has 256 characters, 255 are allowed"),
        ("a\nb", "a control character, U+000A, at position 1"),
        ("\0", "a control character, U+0000"),
        ("a\x7f", "a control character, U+007F"),
        ("a\x9f", "a control character, U+009F"),
        ("\x1b[31mred", "a control character, U+001B"),
        ("a\ud800", "a lone surrogate, U+D800"),
        (None, "must be a str"),
        (7, "must be a str"),
        (b"a", "must be a str"),
    ],
)
def test_credential_ids_that_are_refused(value: object, rule: str) -> None:
    """Empty, too long, with what a terminal or a log would act upon, or no str."""
    with pytest.raises(InvalidCredentialId) as caught:
        check_credential_id(value)
    assert rule in str(caught.value)
    assert str(caught.value).startswith("credential id ")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_credential_id_rule_is_the_unicode_category(value: str) -> None:
    """Cc and Cs, by Python's own tables."""
    fine = 1 <= len(value) <= 255 and not any(unicodedata.category(char) in ("Cc", "Cs") for char in value)
    if fine:
        assert check_credential_id(value) == value
    else:
        with pytest.raises(InvalidCredentialId) as caught:
            check_credential_id(value)
        assert str(caught.value).isprintable()


# --- data hash, priority ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [HASH, HASH.upper(), "0x" + HASH, "0x" + HASH.upper()])
def test_data_hash_has_one_spelling(value: str) -> None:
    """Lower case, without 0x."""
    assert check_data_hash(value) == HASH


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "has 0 characters"),
        ("0x", "has 0 characters"),
        (HASH[:-1], "has 63 characters"),
        (HASH + "0", "has 65 characters"),
        ("0x" + HASH[:-2], "has 62 characters"),
        (HASH[:-1] + "g", "has other characters in it"),
        ("0X" + HASH, "has 66 characters"),
        ("0x0x" + HASH[:-2], "has other characters in it"),
        (HASH + "\n", "has 65 characters"),
        (" " + HASH[1:], "has other characters in it"),
        ("１" * 64, "has other characters in it"),
        (bytes.fromhex(HASH), "is not a str"),
        (int(HASH, 16), "is not a str"),
        (None, "is not a str"),
    ],
)
def test_data_hashes_that_are_refused(value: object, rule: str) -> None:
    """Of another length, not hex, or no str."""
    with pytest.raises(InvalidDataHash, match="must be 64 hex digits") as caught:
        check_data_hash(value)
    assert rule in str(caught.value)


@pytest.mark.parametrize("value", ["", "URGENT", "high", None, 0, True, ["urgent"]])
def test_there_are_two_priorities(value: object) -> None:
    """urgent and normal."""
    assert [check_priority("urgent"), check_priority("normal")] == ["urgent", "normal"]
    with pytest.raises(InvalidPriority, match='must be "urgent" or "normal"'):
        check_priority(value)


@settings(deadline=None)
@given(st.text(min_size=100, max_size=2000))
def test_errors_show_values_shortened_and_escaped(value: str) -> None:
    """At most 80 characters of them, and nothing that a terminal would act upon."""
    for check in (check_data_hash, check_priority):
        with pytest.raises(InvalidInput) as caught:
            check(value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 80 + 90


# --- write requests --------------------------------------------------------------------------


def test_a_write_request_is_normal() -> None:
    """Hash without 0x; an empty CID is none."""
    expected = WriteRequest("c-1", HASH, None, "normal")
    assert WriteRequest.of("c-1", "0x" + HASH.upper()) == expected
    assert WriteRequest.of("c-1", HASH, "", priority="normal") == expected
    assert WriteRequest.of("c-1", HASH, CID, priority="urgent") == WriteRequest("c-1", HASH, CID, "urgent")


def test_each_part_has_its_own_error() -> None:
    """So that a caller can tell them apart."""
    for error, parts in {
        InvalidCredentialId: {"credential_id": ""},
        InvalidDataHash: {"data_hash": "12"},
        InvalidCid: {"ipfs_cid": "Qm"},
        InvalidPriority: {"priority": "high"},
    }.items():
        with pytest.raises(error):
            WriteRequest.of(**{"credential_id": "c-1", "data_hash": HASH, **parts})


def test_a_raw_cid_of_another_digest_is_told_or_refused() -> None:
    """By the setting CID_DIGEST_CHECK; other CIDs have nothing to compare."""
    assert not WriteRequest.of("c-1", HASH, raw_cid(HASH), cid_digest_check=True).cid_digest_differs
    assert not WriteRequest.of("c-1", HASH, CID, cid_digest_check=True).cid_digest_differs
    assert not WriteRequest.of("c-1", HASH).cid_digest_differs
    assert WriteRequest.of("c-1", HASH, raw_cid(OTHER_HASH)).cid_digest_differs
    for make in (WriteRequest.of, CredentialRecord.of):
        document = HASH if make == WriteRequest.of else DOCUMENT
        with pytest.raises(CidMismatch) as caught:
            make("c-1", document, ipfs_cid=raw_cid(OTHER_HASH), cid_digest_check=True)
        assert OTHER_HASH in str(caught.value)
        assert HASH in str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        ("c-1", HASH),
        ("c-1", HASH, None),
        ["c-1", HASH, ""],
        ("c-1", HASH, None, "normal"),
        {"credential_id": "c-1", "data_hash": HASH},
        {"credential_id": "c-1", "data_hash": HASH, "ipfs_cid": None, "priority": "normal"},
        MappingProxyType({"credential_id": "c-1", "data_hash": "0x" + HASH}),
    ],
)
def test_items_that_pass(item: object) -> None:
    """Tuples as the queued call takes them, and mappings with the same names."""
    assert WriteRequest.from_item(item, 0) == WriteRequest("c-1", HASH, None, "normal")


def test_an_items_own_priority_goes_first() -> None:
    """The call's is for those that have none."""
    item = {"credential_id": "c-1", "data_hash": HASH}
    assert WriteRequest.from_item(item, 0, priority="urgent").priority == "urgent"
    assert WriteRequest.from_item(item | {"priority": "normal"}, 0, priority="urgent").priority == "normal"
    assert WriteRequest.from_item(("c-1", HASH, None, "urgent"), 0).priority == "urgent"


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        (("c-1",), InvalidInput, "must be a mapping, or a tuple"),
        (("c-1", HASH, None, "normal", 1), InvalidInput, "must be a mapping, or a tuple"),
        ("c-1", InvalidInput, "'c-1': must be a mapping"),
        (None, InvalidInput, "None: must be a mapping"),
        ({"c-1", HASH}, InvalidInput, "of type set: must be a mapping"),
        ({"credential_id": "c-1"}, InvalidInput, "data_hash must be there"),
        ({}, InvalidInput, "credential_id and data_hash must be there"),
        ({"credential_id": "c-1", "data_hash": HASH, "cid": CID}, InvalidInput, "unknown key 'cid'; allowed"),
        ({"credential_id": "c-1", "data_hash": HASH, 1: 2}, InvalidInput, "unknown key 1"),
        (("c-1", "12"), InvalidDataHash, "data hash '12': must be 64 hex digits"),
        (("", HASH), InvalidCredentialId, "must not be empty"),
        (("c-1", HASH, "Qm"), InvalidCid, "'Qm'"),
    ],
)
def test_items_that_are_refused(item: object, error: type[InvalidInput], text: str) -> None:
    """With the item's place in the list, and the error of the part."""
    with pytest.raises(InvalidInput) as caught:
        WriteRequest.from_item(item, 41)
    assert type(caught.value) is error
    assert str(caught.value).startswith("items[41]: ")
    assert text in str(caught.value)

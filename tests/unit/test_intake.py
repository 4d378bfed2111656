"""Promise: what can not be anchored is refused where it enters, with field, value and rule; what
passes is normal: one spelling of a hash, no empty CID, a stored text with the same hash."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from types import MappingProxyType
from typing import Any

import multibase  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import (
    CidMismatch,
    HashMismatch,
    InvalidCid,
    InvalidCredentialId,
    InvalidDataHash,
    InvalidDocument,
    InvalidInput,
    InvalidPriority,
)
from pipeline.hashing import MAX_DOCUMENT_BYTES, document_hash, load_document
from pipeline.intake import (
    MAX_LINE_BYTES,
    MAX_METADATA_BYTES,
    OWN_METADATA_KEYS,
    CredentialRecord,
    WriteRequest,
    check_credential_id,
    check_data_hash,
    check_metadata,
    check_priority,
    credential_id_in,
)

DOCUMENT = {"name": "Ada", "grade": 1.0}
HASH = document_hash(DOCUMENT)
OTHER = "ab" * 32
CID = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"


def raw_cid(digest: str) -> str:
    """The CID of a raw block with that SHA-256."""
    return str(multibase.encode("base32", b"\x01\x55\x12\x20" + bytes.fromhex(digest)).decode())


def line(**parts: Any) -> str:
    """A line of a JSONL file."""
    return json.dumps({"credential_id": "c-1", "document": DOCUMENT, **parts})


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
    assert WriteRequest.of("c-1", HASH, raw_cid(OTHER)).cid_digest_differs
    for make in (WriteRequest.of, CredentialRecord.of):
        document = HASH if make == WriteRequest.of else DOCUMENT
        with pytest.raises(CidMismatch) as caught:
            make("c-1", document, ipfs_cid=raw_cid(OTHER), cid_digest_check=True)
        assert OTHER in str(caught.value)
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


# --- credentials -----------------------------------------------------------------------------


def test_a_record_of_a_document() -> None:
    """Its hash is computed, its text is what reads back as the same document."""
    record = CredentialRecord.of("c-1", DOCUMENT, metadata={"faculty": 7})
    assert record.document_text is not None
    assert load_document(record.document_text) == DOCUMENT
    assert record == CredentialRecord("c-1", record.document_text, HASH, None, {"faculty": 7}, "normal")
    assert CredentialRecord.of("c-1", DOCUMENT, data_hash="0x" + HASH.upper()).data_hash == HASH
    assert record.request == WriteRequest("c-1", HASH, None, "normal")


def test_a_record_of_a_hash_alone() -> None:
    """As rows from an older system are."""
    record = CredentialRecord.of("c-1", None, data_hash=OTHER, ipfs_cid=CID, priority="urgent")
    assert record == CredentialRecord("c-1", None, OTHER, CID, {}, "urgent")
    assert record.request == WriteRequest("c-1", OTHER, CID, "urgent")


def test_there_must_be_a_document_or_a_hash() -> None:
    """Else there is nothing to anchor."""
    with pytest.raises(InvalidInput, match="'c-1': has neither a document nor a data hash"):
        CredentialRecord.of("c-1", None)


def test_a_hash_that_is_not_the_documents_is_refused() -> None:
    """The message has both."""
    with pytest.raises(HashMismatch) as caught:
        CredentialRecord.of("c-1", DOCUMENT, data_hash=OTHER)
    assert HASH in str(caught.value)
    assert OTHER in str(caught.value)


def test_documents_are_not_in_a_records_repr() -> None:
    """Nor is metadata: a log may print a record."""
    assert "Ada" not in repr(CredentialRecord.of("c-1", DOCUMENT, metadata={"who": "Ada"}))


@pytest.mark.parametrize("key", sorted(OWN_METADATA_KEYS))
def test_metadata_keys_of_the_pipeline_are_refused(key: str) -> None:
    """Only the pipeline says what became of a write; other keys, also blockchain_*, are the issuer's."""
    assert check_metadata({"blockchain_network": "main"}) == {"blockchain_network": "main"}
    with pytest.raises(InvalidInput, match=f"metadata: only the pipeline sets {key}"):
        CredentialRecord.of("c-1", DOCUMENT, metadata={key: "confirmed"})


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ([], "$ is of type list, not an object"),
        ("{}", "$ is of type str, not an object"),
        ({"a": [float("nan")]}, "$.a[0] is NaN"),
        ({"a": 2**53}, "$.a is an integer beyond"),
        ({"a": "\0"}, "$.a has the character \\u0000"),
        ({1: 1}, "$ has a key of type int"),
        ({"a": ()}, "$.a is of type tuple"),
        ({"a": "é" * (MAX_METADATA_BYTES // 2)}, "$ is larger than 65,536 bytes"),
    ],
)
def test_metadata_that_is_refused(metadata: object, rule: str) -> None:
    """By the rules for documents, and 64 KiB."""
    with pytest.raises(InvalidInput, match="metadata: ") as caught:
        check_metadata(metadata)
    assert rule in str(caught.value)


def test_metadata_up_to_its_limit_passes() -> None:
    """64 KiB as JSON; None is none."""
    fitting = {"a": "x" * (MAX_METADATA_BYTES - len('{"a":""}'))}
    assert check_metadata(fitting) == fitting
    assert check_metadata(None) == {}


# --- lines -----------------------------------------------------------------------------------


def test_lines_that_pass() -> None:
    """All keys, and null for what is not there."""
    full = line(data_hash="0x" + HASH, ipfs_cid=CID, metadata={"a": 1}, priority="urgent")
    record = CredentialRecord.of("c-1", DOCUMENT, ipfs_cid=CID, metadata={"a": 1}, priority="urgent")
    assert CredentialRecord.from_line(full) == record
    assert CredentialRecord.from_line(full.encode() + b"\r\n") == record
    nulls = line(data_hash=None, ipfs_cid=None, metadata=None, priority=None)
    assert CredentialRecord.from_line(nulls) == CredentialRecord.of("c-1", DOCUMENT)
    alone = json.dumps({"credential_id": "c-1", "document": None, "data_hash": OTHER})
    assert CredentialRecord.from_line(alone) == CredentialRecord.of("c-1", None, data_hash=OTHER)


@pytest.mark.parametrize(
    ("text", "error", "fault"),
    [
        ("", InvalidInput, "the line is not JSON"),
        ("nope", InvalidInput, "the line is not JSON"),
        (line()[:-1], InvalidInput, "the line is not JSON"),
        (line() + line(), InvalidInput, "the line is not JSON at line 1 column"),
        (b"\xff", InvalidInput, "the line is not UTF-8 at byte 0"),
        ("[]", InvalidInput, "of type list: must be an object"),
        ("null", InvalidInput, "None: must be an object"),
        ("7", InvalidInput, "7: must be an object"),
        ("{}", InvalidInput, "credential_id must be there"),
        ('{"credential_id": null}', InvalidCredentialId, "None: must be a str"),
        ('{"credential_id": "c-1"}', InvalidInput, "neither a document nor a data hash"),
        (
            line(hash=OTHER),
            InvalidInput,
            "unknown key 'hash'; allowed are credential_id, document, data_hash",
        ),
        ('{"credential_id": "a", "credential_id": "b"}', InvalidInput, "has the key 'credential_id' twice"),
        ('{"credential_id": "a", "document": {"a": 1, "a": 1}}', InvalidDocument, "$ has the key 'a' twice"),
        (
            '{"credential_id": "a", "data_hash": "' + OTHER + '", "metadata": {"x": {"a": 1, "a": 1}}}',
            InvalidInput,
            "metadata: $.x has the key 'a' twice",
        ),
        (line(document={"a": float("nan")}), InvalidDocument, "document: $.a is NaN"),
        (line(document={"a": 2**53}), InvalidDocument, "document: $.a is an integer beyond"),
        (line(document={"a": "\ud800"}), InvalidDocument, "document: $.a has a lone surrogate"),
        (line(document={"a": "\0"}), InvalidDocument, "document: $.a has the character \\u0000"),
        (line(document="{}"), InvalidDocument, "document: $ is of type str"),
        (line(document={"a": "x" * MAX_DOCUMENT_BYTES}), InvalidDocument, "larger than 1,048,576 bytes"),
        (line(data_hash=OTHER), HashMismatch, HASH),
        (line(data_hash=""), InvalidDataHash, "has 0 characters"),
        (line(ipfs_cid="Qm"), InvalidCid, "'Qm'"),
        (line(ipfs_cid=7), InvalidCid, "must be a str or None, not int"),
        (line(priority="high"), InvalidPriority, "'high'"),
        (line(credential_id="a\n"), InvalidCredentialId, "U+000A"),
        (line(credential_id="\ud800"), InvalidCredentialId, "a lone surrogate"),
        (" " * (MAX_LINE_BYTES + 1), InvalidInput, "the line is larger than"),
        ("[" * 100_000, InvalidInput, "the line is nested deeper"),
    ],
)
def test_lines_that_are_refused(text: str | bytes, error: type[InvalidInput], fault: str) -> None:
    """With the error of the part, on one printable line that holds no document."""
    with pytest.raises(InvalidInput) as caught:
        CredentialRecord.from_line(text)
    assert type(caught.value) is error
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()
    assert "Ada" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_largest_document_fits_a_line() -> None:
    """Also when each of its characters is an escape of six."""
    document = {"a": "\x7f" + "é" * ((MAX_DOCUMENT_BYTES - 9) // 2)}
    record = CredentialRecord.from_line(json.dumps({"credential_id": "c-1", "document": document}))
    assert record.data_hash == document_hash(document)


def test_records_of_lists() -> None:
    """What sync takes: mappings, with the place before the message."""
    assert CredentialRecord.from_item({"credential_id": "c-1", "document": DOCUMENT}, 3).data_hash == HASH
    with pytest.raises(HashMismatch, match=r"^items\[3\]: "):
        CredentialRecord.from_item({"credential_id": "c-1", "document": DOCUMENT, "data_hash": OTHER}, 3)
    with pytest.raises(InvalidInput, match=r"^items\[4\]: .*must be an object"):
        CredentialRecord.from_item(("c-1", DOCUMENT), 4)


def test_the_id_of_a_refused_line_is_told_where_there_is_one() -> None:
    """For reports; an id that is none is not repeated."""
    assert credential_id_in(line(data_hash=OTHER)) == "c-1"
    for text in ("nope", "[]", "{}", line(credential_id="a\n"), line(credential_id=7), b"\xff"):
        assert credential_id_in(text) is None


@settings(deadline=None)
@given(st.text(min_size=100, max_size=2000))
def test_errors_show_values_shortened_and_escaped(value: str) -> None:
    """At most 80 characters of them, and nothing that a terminal would act upon."""
    for check in (check_data_hash, check_priority):
        with pytest.raises(InvalidInput) as caught:
            check(value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 80 + 90


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.none(), max_size=5))
def test_a_record_never_lies_about_its_document(document: dict[str, Any]) -> None:
    """Whatever passes has the SHA-256 of what its stored text says; whatever does not is named."""
    try:
        record = CredentialRecord.of("c-1", document)
    except InvalidDocument:
        return
    assert record.document_text is not None
    stored = load_document(record.document_text)
    assert document_hash(stored) == record.data_hash
    assert len(record.data_hash) == len(hashlib.sha256().hexdigest())

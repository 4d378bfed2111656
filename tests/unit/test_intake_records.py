"""Promise: a credential that passes has a stored text with the same hash; one that does not is refused with
the error of its part and without a word of its document."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import (
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
    check_metadata,
    credential_id_in,
)
from tests.issuer import CID, DOCUMENT, HASH, OTHER_HASH


def line(**parts: Any) -> str:
    """A line of a JSONL file."""
    return json.dumps({"credential_id": "c-1", "document": DOCUMENT, **parts})


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
    record = CredentialRecord.of("c-1", None, data_hash=OTHER_HASH, ipfs_cid=CID, priority="urgent")
    assert record == CredentialRecord("c-1", None, OTHER_HASH, CID, {}, "urgent")
    assert record.request == WriteRequest("c-1", OTHER_HASH, CID, "urgent")


def test_there_must_be_a_document_or_a_hash() -> None:
    """Else there is nothing to anchor."""
    with pytest.raises(InvalidInput, match="'c-1': has neither a document nor a data hash"):
        CredentialRecord.of("c-1", None)


def test_a_hash_that_is_not_the_documents_is_refused() -> None:
    """The message has both."""
    with pytest.raises(HashMismatch) as caught:
        CredentialRecord.of("c-1", DOCUMENT, data_hash=OTHER_HASH)
    assert HASH in str(caught.value)
    assert OTHER_HASH in str(caught.value)


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
    alone = json.dumps({"credential_id": "c-1", "document": None, "data_hash": OTHER_HASH})
    assert CredentialRecord.from_line(alone) == CredentialRecord.of("c-1", None, data_hash=OTHER_HASH)


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
            line(hash=OTHER_HASH),
            InvalidInput,
            "unknown key 'hash'; allowed are credential_id, document, data_hash",
        ),
        ('{"credential_id": "a", "credential_id": "b"}', InvalidInput, "has the key 'credential_id' twice"),
        ('{"credential_id": "a", "document": {"a": 1, "a": 1}}', InvalidDocument, "$ has the key 'a' twice"),
        (
            '{"credential_id": "a", "data_hash": "' + OTHER_HASH + '", "metadata": {"x": {"a": 1, "a": 1}}}',
            InvalidInput,
            "metadata: $.x has the key 'a' twice",
        ),
        (line(document={"a": float("nan")}), InvalidDocument, "document: $.a is NaN"),
        (line(document={"a": 2**53}), InvalidDocument, "document: $.a is an integer beyond"),
        (line(document={"a": "\ud800"}), InvalidDocument, "document: $.a has a lone surrogate"),
        (line(document={"a": "\0"}), InvalidDocument, "document: $.a has the character \\u0000"),
        (line(document="{}"), InvalidDocument, "document: $ is of type str"),
        (line(document={"a": "x" * MAX_DOCUMENT_BYTES}), InvalidDocument, "larger than 1,048,576 bytes"),
        (line(data_hash=OTHER_HASH), HashMismatch, HASH),
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
        CredentialRecord.from_item({"credential_id": "c-1", "document": DOCUMENT, "data_hash": OTHER_HASH}, 3)
    with pytest.raises(InvalidInput, match=r"^items\[4\]: .*must be an object"):
        CredentialRecord.from_item(("c-1", DOCUMENT), 4)


def test_the_id_of_a_refused_line_is_told_where_there_is_one() -> None:
    """For reports; an id that is none is not repeated."""
    assert credential_id_in(line(data_hash=OTHER_HASH)) == "c-1"
    for text in ("nope", "[]", "{}", line(credential_id="a\n"), line(credential_id=7), b"\xff"):
        assert credential_id_in(text) is None


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

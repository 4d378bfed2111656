"""Promise: the quick way to a hash is the slow one's, or is not taken."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidDocument
from pipeline.hashing import canonical, document_hash, document_text, hash_of_text, load_document
from pipeline.plain_json import form, read
from tests.documents import DOCUMENTS

#: What an issuer has.
COMMON = """
{"@context": ["https://www.w3.org/2018/credentials/v1"], "type": ["VerifiableCredential"], "id": "urn:7",
 "credentialSubject": {"name": "Zoë Número", "gpa": 3.7, "year": 2026, "honours": false, "minor": null},
 "note": "a \\"quoted\\" line\\n, a slash \\/ and a tab\\t"}
"""

#: Numbers that Python and RFC 8785 write differently, or may.
IN_TWO_WAYS = [
    "1.0",
    "-0.0",
    "1e2",
    "0.00001",
    "1e-7",
    "1e21",
    "5e-324",
    "999999999999999.5e3",
    "9007199254740993",
    "1000000000000000",
    "123456789012345.0",
]

#: What is no document.
REFUSED = [
    "",
    "[]",
    "1",
    "{",
    '{"a":1} x',
    '{"a":01}',
    '{"a":1,"a":2}',
    '{"a":{"b":1,"b":1}}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":1e999}',
    '{"a":9007199254740993}',
    '{"a":"\n"}',
    '{"a":"\\u0000"}',
    '{"a":"\\ud800"}',
    '{"a":"\ud800"}',
    '{"a":' + "[" * 200 + "]" * 200 + "}",
]


def canonical_text(text: str) -> bytes | None:
    """What the quick way makes of it."""
    document = read(text)
    return None if document is None else form(document)


def agrees(text: str) -> bool:
    """Whether the quick way was taken; its form is that of the judge."""
    quick = canonical_text(text)
    assert quick is None or quick == canonical(load_document(text))
    return quick is not None


def test_the_common_document_takes_it() -> None:
    """With names that are not ASCII, floats, and the escapes that people write."""
    assert agrees(COMMON)
    assert hash_of_text(COMMON) == document_hash(load_document(COMMON))


@settings(deadline=None, max_examples=300)
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 2]))
def test_any_document(document: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """However it is written."""
    agrees(json.dumps(document, ensure_ascii=ascii_only, indent=indent))
    agrees(document_text(document))
    assert hash_of_text(document_text(document)) == document_hash(document)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, 2**64 - 1))
def test_any_double(bits: int) -> None:
    """From all there are: each that is taken is written as RFC 8785 says."""
    (number,) = struct.unpack(">d", struct.pack(">Q", bits))
    agrees(json.dumps({"n": number})) if number - number == 0 else None


@settings(deadline=None, max_examples=500)
@given(st.floats(-1e16, 1e16))
def test_any_usual_double(number: float) -> None:
    """As most that a document has."""
    agrees(json.dumps({"n": number}))


@pytest.mark.parametrize(("number", "taken"), [("3.7", True), ("-0.5", True), ("0.0001", True), ("12", True)])
def test_usual_numbers_take_it(number: str, taken: bool) -> None:
    """Otherwise it would be of no use."""
    assert agrees(f'{{"n":{number}}}') is taken


@pytest.mark.parametrize("number", IN_TWO_WAYS)
def test_numbers_that_are_written_in_two_ways_do_not(number: str) -> None:
    """Python and RFC 8785 differ, or may."""
    assert canonical_text(f'{{"n":{number}}}') is None


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_refused_by_the_judge(text: str) -> None:
    """With its words: the quick way has none."""
    assert canonical_text(text) is None
    with pytest.raises(InvalidDocument):
        hash_of_text(text)


def test_keys_beyond_the_basic_plane_are_left_to_the_judge() -> None:
    """RFC 8785, 3.2.3: by UTF-16 the astral one comes first."""
    assert canonical_text('{"\ufb33":1,"\U0001f600":2}') is None
    assert agrees('{"\ud7fb":1,"\u20ac":2,"a":3,"\xf6":4}')


def test_a_large_one_is_measured_by_the_judge() -> None:
    """The limit is in bytes."""
    with pytest.raises(InvalidDocument, match="larger"):
        hash_of_text('{"a":"' + "é" * 600_000 + '"}')

"""Promise: npm's canonicalize and Node's SHA-256 make the hash of a document that we make."""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from pipeline.errors import InvalidDocument
from pipeline.hashing import canonical, document_hash, document_text, parse_document
from pipeline.strict_json import MAX_DEPTH, MAX_INTEGER
from tests import node
from tests.documents import DOCUMENTS

#: JSON texts; what is awkward about each is in its key, or is its key.
AWKWARD = [
    # RFC 8785, 3.2.2 and 3.2.3
    r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
         "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}""",
    r"""{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
         "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
         "\u00f6": "Latin Small Letter O With Diaeresis"}""",
    '{"zeros": [0, -0, 0.0, -0.0, 0e5, -0e-5, 1e-324]}',
    '{"exponents": [1e21, 1e20, 1E+2, 1e-6, 1e-7, 9.999999999999997e22, 1e23, 123456789012345680000.0]}',
    '{"limits": [5e-324, -5e-324, 2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308]}',
    f'{{"integers": [{MAX_INTEGER}, -{MAX_INTEGER}, 9007199254740993.0, 9007199254740992.0, 1e15, 1e16]}}',
    '{"halves": [0.1, 0.30000000000000004, 4.35, 2.5, 1.0, 100.0, 333333333.33333325, 1424953923781206.2]}',
    '{"": 1, "a": {"": {"": []}}, " ": 2}',
    '{"10": 1, "9": 2, "1": 3, "-1": 4, "01": 5, "1.5": 6, "1e3": 7}',
    '{"__proto__": {"a": 1}, "constructor": 2, "toString": 3, "hasOwnProperty": 4, "toJSON": "5"}',
    '{"a": 1, "A": 2, "á": 3, "a\u0301": 4, "aa": 5, "ä": 6, "Z": 7, "z": 8, "ß": 9, "ﬀ": 10}',
    '{"\uffff": 1, "\U00010000": 2, "\ue000": 3, "\ud7ff": 4, "\U0010ffff": 5, "\ufffd": 6}',
    r'{"\ud83c\udf93": "\ud834\udd1e", "😀": "𝒳", "👩‍🎓": "\ud83d\udc69\u200d\ud83c\udf93"}',
    json.dumps({"controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f"}),
    json.dumps({"names": "\b\t\n\f\r\"\\/", "separators": "\u2028\u2029\ufeff\u00ad\u200b"}),
    json.dumps({"right to left": "שלום \u202e", "Greek": "ΑΣ ας", "Hangul": "\u1112\u1161\u11ab 한"}),
    json.dumps({"not normal": ["é", "e\u0301", "\u212b", "\u00c5", "A\u030a"]}, ensure_ascii=False),
    ' \t\r\n{ "spaces" : [ 1 , { } , [ ] , "" ] }\n ',
    '{"empty": [{}, [], "", [[]], [{}], {"": {}}]}',
    '{"deep": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}",
    '{"a":' * (MAX_DEPTH - 1) + '{"b": 1, "a": 2}' + "}" * (MAX_DEPTH - 1),
    json.dumps({"wide": {f"k{number}": number for number in range(300)}}),
    "{}",
]  # fmt: skip

#: What neither side takes: lone halves of a pair in strings and in keys, what no double holds, no JSON.
REFUSED = [
    r'{"a": "\ud800"}',
    r'{"a": "\udfff"}',
    r'{"a": ["x\ud83d\ud83d\ude00"]}',
    r'{"a": "\ude00\ud83d"}',
    r'{"\ud800": 1}',
    r'{"a": {"b\udc00": 1}}',
    '{"a": 1e400}',
    '{"a": [-1e309]}',
    '{"a": NaN}',
    '{"a": 01}',
    '{"a": 1,}',
    '{"a": "\t"}',
    "{'a': 1}",
    "",
]


def compare(texts: list[str]) -> None:
    """See that form and hash of each text are the same on both sides."""
    for text, theirs in zip(texts, node.ask("canonical.cjs", texts), strict=True):
        document = parse_document(text)
        assert theirs == {"form": canonical(document).decode(), "hash": document_hash(document)}, text


def test_awkward_documents() -> None:
    """Numbers, escapes, astral characters, order of keys by UTF-16, empty keys, depth; also once stored."""
    compare(AWKWARD + [document_text(parse_document(text)) for text in AWKWARD])


def test_generated_documents() -> None:
    """Whatever is allowed, as it is stored, and as others may spell it."""
    texts: list[str] = []

    @settings(max_examples=60, deadline=None, database=None, phases=[Phase.generate])
    @given(DOCUMENTS)
    def collect(document: dict[str, Any]) -> None:
        texts.extend([document_text(document), json.dumps(document), json.dumps(document, indent=1)])

    collect()
    assert len(texts) >= 180
    compare(texts)


def test_doubles_of_all_sizes() -> None:
    """Any bits that are a number: the exponent is as often very small or large as not."""
    chance = random.Random(8785)
    numbers = [struct.unpack(">d", chance.randbytes(8))[0] for _ in range(10_000)]
    finite = [number for number in numbers if math.isfinite(number)]
    compare([json.dumps({"n": finite[start : start + 100]}) for start in range(0, len(finite), 100)])


def test_what_neither_takes() -> None:
    """Where a reader would have to guess, there is no hash."""
    for text, theirs in zip(REFUSED, node.ask("canonical.cjs", REFUSED), strict=True):
        with pytest.raises(InvalidDocument):
            parse_document(text)
        assert set(theirs) == {"refused"}, text

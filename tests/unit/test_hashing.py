"""Promise: the same document has the same hash everywhere, also after it was stored; what could not keep
that is refused, with place and rule, and without a word of what the document says."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import plain_json
from pipeline.errors import InvalidDocument
from pipeline.hashing import (
    MAX_DOCUMENT_BYTES,
    canonical,
    check_document,
    checked_hash,
    document_hash,
    document_text,
    load_document,
    parse_document,
)
from pipeline.strict_json import MAX_DEPTH, MAX_INTEGER
from tests.documents import DOCUMENTS

#: RFC 8785, appendix B: the bits of a double, and how it is written.
RFC_8785_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "written"), RFC_8785_NUMBERS.items())
def test_numbers_are_written_as_rfc_8785_says(bits: str, written: str) -> None:
    """Appendix B of the RFC, also after the document was stored and loaded."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    document = {"n": number}
    assert canonical(document).decode() == f'{{"n":{written}}}'
    assert canonical(load_document(document_text(document))).decode() == f'{{"n":{written}}}'


def test_keys_are_sorted_by_utf_16() -> None:
    """RFC 8785, 3.2.3: in UTF-16 the astral character comes before U+FB33, by code point after it."""
    document = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7}
    assert list(json.loads(canonical(document))) == [
        "\r",
        "1",
        "\x80",
        "\xf6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


def test_hash_is_sha_256_of_the_canonical_form() -> None:
    """Known by anyone with a JCS and a SHA-256."""
    document = {"b": [1.0, -0.0, 1e21, 5e-324], "a": "é\n"}
    form = '{"a":"é\\n","b":[1,0,1e+21,5e-324]}'.encode()
    assert canonical(document) == form
    assert document_hash(document) == hashlib.sha256(form).hexdigest()


@settings(deadline=None)
@given(
    DOCUMENTS | st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text()),
)
def test_the_short_way_to_the_hash(document: dict[str, Any]) -> None:
    """With rfc8785 as the judge: whatever may be handed in has the hash that it has the long way."""
    try:
        check_document(document)
    except InvalidDocument:
        return
    assert checked_hash(document) == document_hash(document)


@pytest.mark.parametrize("bits", RFC_8785_NUMBERS)
def test_numbers_on_the_short_way(bits: str) -> None:
    """Appendix B once more, in each place where a number can end."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    for document in ({"n": number}, {"n": [number]}, {"n": [number, 1]}, {"n": number, "o": ""}):
        assert checked_hash(document) == document_hash(document)


@pytest.mark.parametrize(
    ("document", "usual"),
    [
        ({"b": [1.5, -0.25, 7, None, True, "é\n\u2028\x7f"], "a": {}}, True),
        ({"n": 1.0}, False),
        ({"n": 1e-5}, False),
        ({"n": 1e16}, False),
        ({"\ufb33": 1, "\U0001f600": 2}, False),
    ],
)
def test_which_way_is_taken(document: dict[str, Any], usual: bool) -> None:
    """json's encoder writes what most documents have; the rest it would write in another way."""
    assert (plain_json.form(document) is not None) is usual
    assert checked_hash(document) == document_hash(document)


@settings(deadline=None)
@given(DOCUMENTS)
def test_hash_survives_storing(document: dict[str, Any]) -> None:
    """Whatever passes comes back from its stored text as the same values with the same hash."""
    loaded = load_document(document_text(document))
    assert loaded == document
    assert document_hash(loaded) == document_hash(document)


@settings(deadline=None)
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 2]))
def test_hash_does_not_depend_on_the_spelling(
    document: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """White space, escapes and the order of keys are another program's own business."""
    turned = dict(reversed(document.items()))
    text = json.dumps(turned, ensure_ascii=ascii_only, indent=indent)
    assert document_hash(load_document(text)) == document_hash(document)
    assert document_hash(parse_document(text.encode())) == document_hash(document)


@pytest.mark.parametrize("number", ["1e21", "-0.0", "5e-324", "1e20", "9007199254740993.0", "1.0E2", "1e-7"])
def test_hash_survives_storing_where_canonical_numbers_look_like_integers(number: str) -> None:
    """``1e20`` is 100000000000000000000 in RFC 8785, which would be refused when read again."""
    document = parse_document(f'{{"n": {number}}}')
    stored = document_text(document)
    assert isinstance(load_document(stored)["n"], float)
    assert document_hash(load_document(stored)) == document_hash({"n": float(number)})


def test_largest_integers_pass() -> None:
    """2^53 - 1 is the last one that every reader keeps."""
    document = parse_document(f'{{"n": [{MAX_INTEGER}, -{MAX_INTEGER}]}}')
    assert canonical(document).decode() == f'{{"n":[{MAX_INTEGER},-{MAX_INTEGER}]}}'
    check_document(document)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not JSON at line 1 column 1"),
        ("{", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1} x', "is not JSON at line 1 column 10: Extra data"),
        ('{"a": 01}', "is not JSON"),
        ('{"a": "\t"}', "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[1]", "$ is of type list; a document is an object"),
        ('"text"', "$ is of type str; a document is an object"),
        ("null", "$ is of type NoneType; a document is an object"),
        ('{"a": {"b": [1, NaN]}}', "$.a.b[1] is NaN, infinite"),
        ('{"a": -Infinity}', "$.a is NaN, infinite"),
        ('{"a": 1e400}', "$.a is NaN, infinite or beyond the largest double"),
        ('{"a": 9007199254740992}', "$.a is an integer beyond 2^53 - 1"),
        ('{"a": -9007199254740992}', "$.a is an integer beyond 2^53 - 1"),
        ('{"a": ' + "9" * 5000 + "}", "is an integer beyond 2^53 - 1"),
        ('{"a": 1, "a": 1}', "$ has the key 'a' twice"),
        ('{"x": [{"a": 1, "b": 2, "\\u0061": 3}]}', "$.x[0] has the key 'a' twice"),
        ('{"a": "\\ud800"}', "$.a has a lone surrogate"),
        ('{"a": "\\udc00\\ud800"}', "$.a has a lone surrogate"),
        ('{"a": "\ud800"}', "$ has a lone surrogate"),
        ('{"\\ud800": 1}', "$ has a key with a lone surrogate"),
        ('{"a": ["\\u0000"]}', "$.a[0] has the character \\u0000"),
        ('{"\\u0000": 1}', "$ has a key with the character \\u0000"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
        (json.dumps({"a": 1}).encode("utf-16"), "is not UTF-8"),
        ("[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        ('{"a":' * MAX_DEPTH + "{}" + "}" * MAX_DEPTH, f"nested deeper than {MAX_DEPTH} levels"),
        ('{"odd key!": {"a.b": NaN}}', "$['odd key!']['a.b'] is NaN"),
    ],
)
def test_text_that_is_refused(text: str | bytes, fault: str) -> None:
    """Each with its rule, and its place where there is one."""
    with pytest.raises(InvalidDocument) as caught:
        parse_document(text)
    assert fault in str(caught.value)
    assert caught.value.message.startswith("document: $")
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ((1, 2), "$.a.b[1] is of type tuple"),
        ({1}, "$.a.b[1] is of type set"),
        (b"x", "$.a.b[1] is of type bytes"),
        (Decimal("1.5"), "$.a.b[1] is of type Decimal"),
        (datetime(2026, 1, 31, tzinfo=UTC), "$.a.b[1] is of type datetime"),
        (float("nan"), "$.a.b[1] is NaN"),
        (float("inf"), "$.a.b[1] is NaN, infinite"),
        (2**53, "$.a.b[1] is an integer beyond 2^53 - 1"),
        (-(2**53), "$.a.b[1] is an integer beyond 2^53 - 1"),
        pytest.param(10**5000, "$.a.b[1] is an integer beyond 2^53 - 1", id="5,001 digits"),
        ({1: 2}, "$.a.b[1] has a key of type int"),
        ({None: 2}, "$.a.b[1] has a key of type NoneType"),
        ("\ud800", "$.a.b[1] has a lone surrogate"),
        ("a\0", "$.a.b[1] has the character \\u0000"),
    ],
)
def test_python_value_that_is_refused(value: object, fault: str) -> None:
    """What issuer code may hold by mistake; nothing is turned into JSON in silence."""
    for check in (check_document, document_text):
        with pytest.raises(InvalidDocument, match="document: ") as caught:
            check({"a": {"b": [0, value]}})
        assert fault in str(caught.value)


@pytest.mark.parametrize("document", [[], "{}", None, 1, b"{}", ()])
def test_only_an_object_is_a_document(document: object) -> None:
    """Neither a list nor JSON text."""
    with pytest.raises(InvalidDocument):
        check_document(document)


def test_booleans_and_subclasses_are_what_they_look_like() -> None:
    """True is not 1, and an OrderedDict is an object."""
    document = OrderedDict(a=True, b=1)
    check_document(document)
    assert canonical(document) == b'{"a":true,"b":1}'
    assert load_document(document_text(document)) == {"a": True, "b": 1}


def test_a_document_that_holds_itself_is_refused() -> None:
    """By the limit on levels, long before Python's own."""
    document: dict[str, Any] = {}
    document["self"] = document
    with pytest.raises(InvalidDocument, match="nested deeper"):
        check_document(document)


def test_depth_limit_counts_objects_and_arrays() -> None:
    """128 levels pass, from text and from Python."""
    levels = MAX_DEPTH - 1
    document = parse_document('{"a":' + "[" * levels + "]" * levels + "}")
    check_document(document)
    assert len(canonical(document)) == 6 + 2 * levels


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a":[{"\\"[":['])
def test_depth_limit_does_not_rest_on_pythons(opening: str) -> None:
    """web3 raises that one to 100,000, at which json's decoder overruns its stack and ends the process."""
    code = (
        "import sys; sys.setrecursionlimit(100_000)\n"
        "from pipeline.hashing import InvalidDocument, parse_document\n"
        "try: parse_document(sys.stdin.read())\n"
        "except InvalidDocument as exc: print(exc)"
    )
    text = opening * (MAX_DOCUMENT_BYTES // len(opening))
    ran = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"document: $ is nested deeper than {MAX_DEPTH} levels\n")


def test_brackets_in_strings_are_no_levels() -> None:
    """Nor are many shallow ones; escaped quotes do not end a string."""
    document = {'a"[{': ["[" * 500, '\\"{' * 500, "\\"], "b": [[]] * 500, "c": [{"d": "]"}] * 500}
    assert parse_document(json.dumps(document)) == document


@settings(deadline=None)
@given(DOCUMENTS.map(lambda document: {"a": [document] * 40, "b": ["[[{"] * 50, "c": [[]] * 50}))
def test_the_depth_limit_refuses_no_flat_document(document: dict[str, Any]) -> None:
    """Whatever its strings hold."""
    assert parse_document(document_text(document)) == document


def test_depth_is_told_in_time_for_any_text() -> None:
    """A text of nothing but escaped quotes, without an end, takes no longer than its length."""
    started = time.perf_counter()
    for text in ("[]" * 129 + '"' + '\\"' * 500_000, "[]" * 129 + '"' * 1_000_000, "[]" * 500_000):
        with pytest.raises(InvalidDocument):
            parse_document(text)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("filler", ["x", "é", "\U0001f600"])
def test_size_limit_is_in_bytes_of_utf_8(filler: str) -> None:
    """1 MiB passes; a byte more does not, neither as text nor as what would be stored."""
    width = len(filler.encode())
    count, rest = divmod(MAX_DOCUMENT_BYTES - len('{"a":""}'), width)
    fitting = {"a": filler * count + "x" * rest}
    text = document_text(fitting)
    assert len(text.encode()) == MAX_DOCUMENT_BYTES
    assert parse_document(text) == parse_document(text.encode()) == fitting
    too_large = {"a": fitting["a"] + "x"}
    for attempt in (
        lambda: parse_document(text[:-1] + " }"),
        lambda: parse_document((text + " ").encode()),
        lambda: check_document(too_large),
        lambda: document_text(too_large),
    ):
        with pytest.raises(InvalidDocument, match="is larger than 1,048,576 bytes"):
            attempt()


def test_a_text_that_grows_when_stored_is_refused_at_once() -> None:
    """``1e15`` is stored with 18 characters: what is taken must be readable again."""
    text = '{"a":[' + ",".join(["1e15"] * 100_000) + "]}"
    with pytest.raises(InvalidDocument, match="larger"):
        document_text(parse_document(text))


def test_canonical_refuses_what_rfc_8785_does_not_have() -> None:
    """Also for callers that skip the check."""
    for value in (float("nan"), 2**53, 10**5000, "\ud800", {"\ud800": 1}, {1: 1}, b"", object()):
        with pytest.raises(InvalidDocument, match="no RFC 8785 form"):
            canonical({"a": value})


@settings(deadline=None, max_examples=200)
@given(st.text(min_size=8, max_size=20).map(lambda text: "secret" + text), st.integers(0, 8))
def test_errors_name_no_value(secret: str, kind: int) -> None:
    """Documents are personal data: the place and the rule have to do."""
    value = [
        (secret,),
        secret + "\0",
        secret + "\ud800",
        [secret, float("nan")],
        {"k": 10**400, "s": secret},
        {secret},
        secret.encode(errors="replace"),
        {"s": secret, "t": Decimal(1)},
        [secret, {1: secret}],
    ][kind]
    with pytest.raises(InvalidDocument) as caught:
        check_document({"name": secret.replace("\0", "").encode(errors="ignore").decode(), "value": value})
    assert "secret" not in str(caught.value)
    assert len(caught.value.message) < 200


def test_a_parse_error_does_not_carry_the_text_along() -> None:
    """json's own error holds the whole document; ours has neither cause nor context."""
    with pytest.raises(InvalidDocument) as caught:
        parse_document('{"name": "secret"')
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in f"{vars(error)} {error!r}"
        error = error.__cause__ or error.__context__


def test_long_paths_and_keys_are_shortened() -> None:
    """One line that fits a log."""
    document: Any = float("nan")
    for _ in range(100):
        document = {"k" * 100: document}
    with pytest.raises(InvalidDocument) as caught:
        check_document(document)
    assert len(str(caught.value)) < 300

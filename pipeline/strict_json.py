"""JSON as strict as a hash needs it: what is read here is read alike by everyone.

That is I-JSON (RFC 7493), without ``\\u0000`` and within limits. Documents are personal data,
so a fault names the place (``$.degree.dates[3]``), the rule and the type, never a value.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

#: The largest integer that a double tells apart from its neighbours (RFC 7493, 2.2).
MAX_INTEGER = 2**53 - 1
#: Levels of objects and arrays. Python, SQLite (1,000) and PostgreSQL all stop somewhere.
MAX_DEPTH = 128
#: A fault shows no more of a key, and of a path, in characters.
MAX_KEY_SHOWN, MAX_PATH_SHOWN = 40, 160

_SURROGATE = re.compile("[\ud800-\udfff]")
#: A string, the last one perhaps without its end, is one token, whatever brackets it holds.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_INTEGER = "is an integer beyond 2^53 - 1, which not every JSON reader keeps (write it as a string)"
_SURROGATE_RULE = "a lone surrogate, which is no character"
_NUL_RULE = "the character \\u0000, which PostgreSQL can not store"


class JsonFault(ValueError):
    """A rule is broken; the text says where and which, on one line and without values."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self._rule = rule
        self._steps: list[str] = []

    def inside(self, step: str | int) -> None:
        """It is in the member ``step`` of an object or array: called from the inside out."""
        self._steps.append(_shown_step(step))

    def __str__(self) -> str:
        path = "".join(reversed(self._steps))
        if len(path) > MAX_PATH_SHOWN:
            path = "…" + path[-MAX_PATH_SHOWN:]
        return f"${path} {self._rule}"


class LimitFault(JsonFault):
    """A limit of this reader is passed, which JSON itself does not have: others may read it, and alike."""


class _KeyTwice(dict[str, Any]):
    """An object in whose text a key stands twice: `check` refuses it, and knows the place."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._key = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    def fault(self) -> JsonFault:
        """The fault that this object is."""
        return JsonFault(f"has the key {_shortened(self._key)} twice")


def read(text: str | bytes, *, max_bytes: int) -> Any:
    """The JSON value in ``text`` (bytes are UTF-8). Raises `JsonFault`.

    What is told better by the place where it stands is left to `check`: NaN, infinities, large
    integers, a key twice further down, lone surrogates, ``\\u0000``.
    """
    try:
        decoded = _sized(text, max_bytes)
        _check_depth(decoded)
        found = _DECODER.decode(decoded)
        if isinstance(found, _KeyTwice):
            raise found.fault()
        return found
    except json.JSONDecodeError as exc:
        fault = JsonFault(f"is not JSON at line {exc.lineno} column {exc.colno}: {exc.msg}")
    except ValueError as exc:
        # The only other one: Python reads no integer of more than 4,300 digits.
        fault = exc if isinstance(exc, JsonFault) else JsonFault(_INTEGER)
    # Outside of the except clauses: json's own error carries the whole text.
    raise fault


def check(value: object) -> None:
    """See that a Python value is JSON and breaks no rule. Raises `JsonFault`.

    dict (with str keys), list, str, int, float, bool and None are; a tuple, datetime, Decimal,
    set or bytes is not: which JSON it should become is the caller's to say.
    """
    _visit(value, MAX_DEPTH)


def write(value: object) -> str:
    """``value``, which `check` has passed, as compact JSON that reads back as the same value."""
    return _ENCODER.encode(value)


def size_bytes(text: str) -> int:
    """How long ``text`` is in UTF-8. Raises `JsonFault` on a lone surrogate."""
    if text.isascii():
        return len(text)
    if _SURROGATE.search(text):
        raise JsonFault(f"has {_SURROGATE_RULE}")
    return len(text.encode())


def _sized(text: str | bytes, max_bytes: int) -> str:
    if len(text) > max_bytes:
        raise too_large(max_bytes)
    if isinstance(text, bytes):
        try:
            return text.decode()
        except UnicodeDecodeError as exc:
            start = exc.start
        raise JsonFault(f"is not UTF-8 at byte {start}")
    if size_bytes(text) > max_bytes:
        raise too_large(max_bytes)
    return text


def _check_depth(text: str) -> None:
    """See that json's decoder, which recurses in C, will not have to go too deep.

    Python's own limit is no help: web3 raises it to 100,000 for the whole process, and the
    decoder overruns its stack at less.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    levels = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            _descend(MAX_DEPTH - levels)
            levels += 1
        elif token[0] in "]}":
            levels -= 1


def too_large(max_bytes: int) -> JsonFault:
    """The fault of a text that is over its limit."""
    return LimitFault(f"is larger than {max_bytes:,} bytes")


def _visit(value: object, levels: int) -> None:
    if isinstance(value, str):
        _visit_text(value, "has")
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise JsonFault(_INTEGER)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise JsonFault("is NaN, infinite or beyond the largest double, which JSON does not have")
    elif isinstance(value, dict):
        _visit_object(value, levels)
    elif isinstance(value, list):
        _visit_array(value, levels)
    else:
        raise JsonFault(f"is of type {type(value).__name__}, which JSON does not have")


def _visit_text(text: str, verb: str) -> None:
    if "\0" in text:
        raise LimitFault(f"{verb} {_NUL_RULE}")
    if not text.isascii() and _SURROGATE.search(text):
        raise JsonFault(f"{verb} {_SURROGATE_RULE}")


def _visit_object(value: dict[Any, Any], levels: int) -> None:
    _descend(levels)
    if isinstance(value, _KeyTwice):
        raise value.fault()
    for key, item in value.items():
        if not isinstance(key, str):
            raise JsonFault(f"has a key of type {type(key).__name__}, not str")
        _visit_text(key, "has a key with")
        try:
            _visit(item, levels - 1)
        except JsonFault as fault:
            fault.inside(key)
            raise


def _visit_array(value: list[Any], levels: int) -> None:
    _descend(levels)
    for number, item in enumerate(value):
        try:
            _visit(item, levels - 1)
        except JsonFault as fault:
            fault.inside(number)
            raise


def _descend(levels: int) -> None:
    if not levels:
        raise LimitFault(f"is nested deeper than {MAX_DEPTH} levels")


def _shown_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN_KEY.fullmatch(step) and len(step) <= MAX_KEY_SHOWN:
        return f".{step}"
    return f"[{_shortened(step)}]"


def _shortened(key: str) -> str:
    return repr(key if len(key) <= MAX_KEY_SHOWN else key[:MAX_KEY_SHOWN] + "…")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _KeyTwice(pairs)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
# Without ensure_ascii the text is what people can search for; `check` has seen that no value
# holds itself.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))

"""The common document, of which Python's own encoder in C makes the RFC 8785 form.

Both write strings, integers and most floats alike, and sort alike what has no characters beyond the
basic plane. What is not sure to be so, or breaks a rule of `pipeline.strict_json`, is left to those
that read every value one by one: `canonical_text` then knows nothing, and never another form.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline.strict_json import MAX_DEPTH

#: An escape by number may be a NUL, or half a character.
_ESCAPED = "\\u"

#: So many digits may be an integer beyond 2^53.
_LONG = re.compile("[0-9]{16}")

#: Beyond the basic plane RFC 8785 sorts by UTF-16.
_ASTRAL = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")

#: Between these a float is written without an exponent by both, and by both in the fewest digits
#: (ECMA-262, Number::toString, which RFC 8785, 3.2.2.3 refers to).
_LOWEST, _HIGHEST = 1e-4, 1e15


class _Unsure(Exception):
    """Somebody else has to look at it."""


def canonical_text(text: str) -> str | None:
    """The RFC 8785 form of the JSON object in ``text``; None when others have to look at it."""
    if _ESCAPED in text or _LONG.search(text) or text.count("[") + text.count("{") > MAX_DEPTH:
        return None
    if not text.isascii() and _ASTRAL.search(text):
        return None
    try:
        document = _DECODER.decode(text)
    except (ValueError, _Unsure):
        return None
    return _ENCODER.encode(document) if isinstance(document, dict) else None


def _float(text: str) -> float:
    number = float(text)
    if not _LOWEST <= abs(number) < _HIGHEST or number.is_integer():
        raise _Unsure
    return number


def _constant(_: str) -> float:
    raise _Unsure


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unsure
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
)

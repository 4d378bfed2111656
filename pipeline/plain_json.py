"""The common document, which Python's own decoder and encoder in C read and write as RFC 8785 wants it.

What is not sure to be so, or breaks a rule of `pipeline.strict_json`, is left to those that look at every
value one by one: then there is no answer here, and never another one.
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

#: What json and RFC 8785 write differently, or may: the order of keys with characters from U+D800 on,
#: floats without a fraction, and those with an exponent. A text that only looks like one costs time, no
#: more.
_UNUSUAL = re.compile("[\ud800-\U0010ffff]|[0-9](?:\\.0(?:[,\\]}]|\\Z)|e[+-])")


class _Unsure(ValueError):
    """Somebody else has to look at it."""


def read(text: str) -> dict[str, Any] | None:
    """The JSON object in ``text``, read as strictly as need be; None when others have to look at it."""
    if _ESCAPED in text or _LONG.search(text) or text.count("[") + text.count("{") > MAX_DEPTH:
        return None
    try:
        document = _DECODER.decode(text)
        text.encode()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def form(document: object) -> bytes | None:
    """The RFC 8785 form of a document that was checked; None where json may write another one."""
    try:
        text = _ENCODER.encode(document)
    except ValueError:  # an infinity, which stands in a text as 1e999
        return None
    return None if _UNUSUAL.search(text) else text.encode()


def _constant(_: str) -> float:
    raise _Unsure


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unsure
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
)

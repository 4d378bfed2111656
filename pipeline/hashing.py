"""Documents: which JSON may be anchored, how it is stored, and its hash.

The hash is SHA-256 over the RFC 8785 form (JCS), whose only numbers are doubles. A number is
an integer as it is *written*: ``100000000000000000000`` is refused, because readers differ in
what they make of it; ``1e20`` is a double and allowed, although its RFC 8785 form has those 21
digits. So the text that is hashed would not always be taken back, and another one is
stored: `document_text` keeps each float a float (``1e+20``, ``-0.0``, ``5e-324``) and each
integer an integer, and reads back as the same document with the same hash.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from pipeline import plain_json, strict_json
from pipeline.errors import InvalidDocument
from pipeline.strict_json import JsonFault

#: A document's size, in bytes of UTF-8: as it was handed in, and as it is stored.
MAX_DOCUMENT_BYTES = 1024 * 1024

#: Up to so many characters a text is within that limit, whichever they are.
MAX_PLAIN = MAX_DOCUMENT_BYTES // 4


def parse_document(text: str | bytes) -> dict[str, Any]:
    """The JSON object in ``text`` (bytes are UTF-8), read strictly.

    Raises `InvalidDocument`, naming place and rule: not JSON, no object, NaN or an infinity, a
    key twice, a lone surrogate, ``\\u0000``, an integer beyond 2^53 - 1, more than
    `MAX_DOCUMENT_BYTES`, more than `strict_json.MAX_DEPTH` levels.
    """
    try:
        document = strict_json.read(text, max_bytes=MAX_DOCUMENT_BYTES)
        _check(document)
    except JsonFault as fault:
        raise _invalid(fault) from None
    return document  # type: ignore[no-any-return]


def check_document(document: object) -> None:
    """See that a Python value is a document that `parse_document` could have read.

    Raises `InvalidDocument` for whatever JSON does not have (a tuple, datetime, Decimal, set,
    bytes, a key that is no str) and for each rule of `parse_document`.
    """
    document_text(document)


def document_text(document: object) -> str:
    """The JSON text that is stored. `load_document` makes the same document and hash of it.

    Raises as `check_document` does.
    """
    try:
        _check(document)
        text = strict_json.write(document)
        if strict_json.size_bytes(text) > MAX_DOCUMENT_BYTES:
            raise strict_json.too_large(MAX_DOCUMENT_BYTES)
    except JsonFault as fault:
        raise _invalid(fault) from None
    return text


def load_document(text: str | bytes) -> dict[str, Any]:
    """The document in a stored row, which another program may have written in its own way.

    White space, the order of keys and the spelling of floats (``1.0E2``) are free; the rules
    are those of `parse_document`.
    """
    return parse_document(text)


def canonical(document: object) -> bytes:
    """The RFC 8785 form of a document.

    Raises `InvalidDocument` for what that form does not have; `check_document` says where, and
    has rules that RFC 8785 has not.
    """
    try:
        return rfc8785.dumps(document)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as exc:
        fault = type(exc).__name__
    raise InvalidDocument(f"document: has no RFC 8785 form ({fault})")


def document_hash(document: object) -> str:
    """SHA-256 of the RFC 8785 form: 64 hex digits in lower case. Raises as `canonical` does."""
    return hashlib.sha256(canonical(document)).hexdigest()


def checked_hash(document: object) -> str:
    """`document_hash` of a document that `check_document` or a reader here has passed.

    In a fifth of the time for most: json's encoder, in C, writes their RFC 8785 form.
    """
    return hashlib.sha256(plain_json.form(document) or canonical(document)).hexdigest()


def hash_of_text(text: str) -> str:
    """`document_hash` of `load_document`, whose errors it raises: quickly, for the common document."""
    document = plain_json.read(text) if len(text) <= MAX_PLAIN else None
    return checked_hash(load_document(text) if document is None else document)


def _check(document: object) -> None:
    strict_json.check(document)
    if not isinstance(document, dict):
        raise JsonFault(f"is of type {type(document).__name__}; a document is an object (dict)")


def _invalid(fault: JsonFault) -> InvalidDocument:
    return InvalidDocument(f"document: {fault}")

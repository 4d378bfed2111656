"""IPFS CIDs: text that parses, and the digest in it. Nothing is ever fetched.

``py-multiformats-cid`` knows versions, codecs and hashes: 7 µs for a CID in bytes, where
``multiformats`` takes 230 µs and pulls five packages. Two things it does not do are done here:
it takes text that is not the CID's own spelling (a line end after it, loose bits in its last
letter), and its base32, in which nearly every CIDv1 is written, takes 80 µs.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.errors import InvalidCid

#: A CIDv1 of a 64-byte digest in base16 has 137; those of the usual 32 bytes 49 to 73.
MAX_CID_LENGTH = 160

_V0 = re.compile("Qm[1-9A-HJ-NP-Za-km-z]{44}")
#: base16, base32, base32hex (both also padded), base36, base58btc, base58flickr, base64 (also
#: url, padded): https://github.com/multiformats/multibase. The first letter tells which.
_V1 = re.compile("[fFbBcCvVtTkKzZmMuU][A-Za-z0-9+/=_-]+")

_SHA2_256 = 0x12


@dataclass(frozen=True, slots=True)
class Cid:
    """A CID: its text as given; ``raw_sha256`` is the digest in hex if it hashes the raw bytes so."""

    text: str
    raw_sha256: str | None


def parse_cid(text: object) -> Cid:
    """Read a CIDv0 (``Qm…``) or a CIDv1 in multibase text. Raises `InvalidCid`."""
    if not isinstance(text, str):
        raise InvalidCid(f"IPFS CID: must be a str or None, not {type(text).__name__}")
    if len(text) > MAX_CID_LENGTH:
        shown = text[:40] + "…"
        raise InvalidCid(f"IPFS CID {shown!r}: has {len(text)} characters, {MAX_CID_LENGTH} are allowed")
    if _V0.fullmatch(text):
        encoded: str | bytes | None = text
    else:
        encoded = _bytes_of_v1(text) if _V1.fullmatch(text) else None
    cid = _parsed(text, encoded) if encoded else None
    if cid is None:
        raise InvalidCid(f"IPFS CID {text!r}: is neither a CIDv0 (Qm…, 46 characters) nor a CIDv1")
    return cid


def check_cid(text: object) -> str:
    """``text``, when it is a CID. Raises `InvalidCid` naming value and rule."""
    return parse_cid(text).text


def sha256_digest_of_raw(text: str) -> str | None:
    """The SHA-256 in a CID of the codec ``raw``, 64 hex digits; None for any other CID.

    Only with that codec is the hash in the CID that of the file's own bytes; the usual
    ``dag-pb`` CID hashes a tree that IPFS builds of them. Raises `InvalidCid`.
    """
    return parse_cid(text).raw_sha256


def _bytes_of_v1(text: str) -> bytes | None:
    """What the multibase text stands for; None when it is not its own, only, spelling."""
    if text.startswith("b"):
        return _base32(text[1:])
    import multibase

    try:
        decoded: bytes = multibase.decode(text)
        spelled: bytes = multibase.encode(multibase.get_codec(text).encoding, decoded)
    except ValueError:
        return None
    return decoded if spelled == text.encode() and decoded[:1] == b"\1" else None


def _base32(text: str) -> bytes | None:
    """RFC 4648 in lower case without padding."""
    upper = text.upper()
    try:
        decoded = base64.b32decode(upper + "=" * (-len(upper) % 8))
    except binascii.Error:
        return None
    own_spelling = base64.b32encode(decoded).rstrip(b"=").decode().lower() == text
    return decoded if own_spelling and decoded[:1] == b"\1" else None


def _parsed(text: str, encoded: str | bytes) -> Cid | None:
    make_cid, multihash = _library()
    try:
        cid = make_cid(encoded)
        hashed = multihash.decode(cid.multihash)
        # A code or length that is written with more bytes than it needs is another spelling.
        if multihash.encode(hashed.digest, hashed.code) != cid.multihash:
            return None
    except ValueError:
        return None
    is_raw_sha256 = cid.version == 1 and cid.codec == "raw" and hashed.code == _SHA2_256
    return Cid(text, bytes(hashed.digest).hex() if is_raw_sha256 else None)


@cache
def _library() -> tuple[Any, Any]:
    """Imported at the first CID: it takes 0.1 s."""
    import multihash  # type: ignore[import-untyped]  # it has no types
    from multiformats_cid.cid import make_cid

    return make_cid, multihash

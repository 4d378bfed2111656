"""IPFS CIDs: text that parses, and the digest in it. Nothing is ever fetched.

``py-multiformats-cid`` knows versions, codecs and hashes: 7 µs for a CID in bytes, where
``multiformats`` takes 230 µs and pulls five packages. It takes text that is not the CID's own
spelling (a line end after it, loose bits in its last letter): that is looked at here. So are the two
in which nearly every CID is written, without it: a CIDv0 in 1 µs and not in 25, a CIDv1 of a SHA-256
in base32 in 2 µs and not in 20. Bulk intake has 35 µs for a credential in all.
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
#: The multihashes of the lowest and the highest SHA-256. Base58 keeps the order of numbers.
_V0_FIRST = "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51"
_V0_LAST = "QmfZy5bvk7a3DQAjCbGNtmrPXWkyVvPrdnZMyBZ5q5ieKG"
#: base16, base32, base32hex (both also padded), base36, base58btc, base58flickr, base64 (also
#: url, padded): https://github.com/multiformats/multibase. The first letter tells which.
_V1 = re.compile("[fFbBcCvVtTkKzZmMuU][A-Za-z0-9+/=_-]+")

_SHA2_256 = 0x12

#: A CIDv1 of a one-byte codec and a SHA-256 has 36 bytes: in base32 two bits are left over.
_V1_SHA2_256 = re.compile("b[a-z2-7]{58}")
_V1_BYTES, _LOOSE_BITS = 36, 2
_RAW, _DAG_PB = (bytes([1, codec, _SHA2_256, 32]) for codec in (0x55, 0x70))
#: From the letters of RFC 4648 to those of `int`.
_BASE32_DIGITS = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")


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
    cid = _usual(text) or _any(text)
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


def _usual(text: str) -> Cid | None:
    """A CIDv0, or one in base32 of a SHA-256 and the codec raw or dag-pb; None for any other."""
    if _V0.fullmatch(text):
        return Cid(text, None) if _V0_FIRST <= text <= _V0_LAST else None
    if not _V1_SHA2_256.fullmatch(text):
        return None
    number, loose = divmod(int(text[1:].translate(_BASE32_DIGITS), 32), 1 << _LOOSE_BITS)
    data = number.to_bytes(_V1_BYTES)
    if loose or data[:4] not in (_RAW, _DAG_PB):
        return None
    return Cid(text, data[4:].hex() if data[:4] == _RAW else None)


def _any(text: str) -> Cid | None:
    """A CIDv1, by the library; None for what is none."""
    encoded = _bytes_of_v1(text) if _V1.fullmatch(text) else None
    return _parsed(text, encoded) if encoded else None


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


def _parsed(text: str, encoded: bytes) -> Cid | None:
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

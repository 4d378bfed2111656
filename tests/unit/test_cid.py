"""Promise: a CID is taken exactly as IPFS spells it, or refused with value and rule."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from contextlib import suppress

import base58
import multibase  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import cid
from pipeline.cid import MAX_CID_LENGTH, check_cid, sha256_digest_of_raw
from pipeline.errors import InvalidCid

V0 = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"
V1_PB = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
V1_RAW = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
RAW, SHA2_256 = b"\x01\x55", b"\x12\x20"

ENCODINGS = [
    "base16",
    "base16upper",
    "base32",
    "base32upper",
    "base32pad",
    "base32hex",
    "base36",
    "base36upper",
    "base58btc",
    "base58flickr",
    "base64",
    "base64pad",
    "base64url",
    "base64urlpad",
]


def raw_cid(digest: bytes, encoding: str = "base32") -> str:
    """The CIDv1 of a raw block with that SHA-256."""
    return str(multibase.encode(encoding, RAW + SHA2_256 + digest).decode())


@pytest.mark.parametrize(
    "text",
    [
        V0,
        V1_PB,
        V1_RAW,
        V1_PB.upper(),
        "zb2rhk6GMPQF3hfzwXTaNYFLKomMeC6UXdUt6jZKPpeVirLtV",
        "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r",
        "f01701220c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a",
        "mAXASIMPEcz7Ir/0Gz56f9Q/8a80uyFphcABLtwlmnDHelDka",
        "uAXASIMPEcz7Ir_0Gz56f9Q_8a80uyFphcABLtwlmnDHelDka",
        "f0155000568656c6c6f",
        "f01551340" + "ab" * 64,
    ],
)
def test_cids_in_use_are_taken(text: str) -> None:
    """CIDv0, and CIDv1 in every base that tools write; also identity and SHA-512."""
    assert check_cid(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "Qm",
        "not a cid",
        "bafy",
        V0[:-1],
        V0 + "R",
        V0[:-1] + "0",
        V0 + "\n",
        " " + V0,
        "\0" + V0,
        "z" + V0,
        "1" * 46,
        V1_PB[:-1],
        V1_PB + "a",
        V1_PB[:-1] + "j",
        V1_PB + "=",
        V1_PB + "\n",
        V1_PB[:-1] + "1",
        "b" + V1_PB[1:].upper(),
        "B" + V1_PB[1:],
        V1_PB[:20] + "é" + V1_PB[21:],
        "f01701220C3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a",
        "f02701220c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a",
        "f00701220c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a",
        "f01551220" + "00" * 31,
        "f01551220" + "00" * 33,
        "f01ffffff7f1220" + "00" * 32,
        "f01d5001220" + "00" * 32,
        "f0155920020" + "00" * 32,
        "f015512a000" + "00" * 32,
        "f" + b"f0155000568656c6c6f".hex(),
        "b" + base64.b32encode(b"bafkqablimvwgy3y").decode().lower().rstrip("="),
        "f01550064" + "00" * 100,
        "f0155",
        "f01",
        "ipfs://" + V1_PB,
        "https://ipfs.io/ipfs/" + V1_PB,
        V1_PB + "/file.json",
        "\U0001f680" + V1_PB,
        "\ud800",
        "x" * (MAX_CID_LENGTH + 1),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    """Cut, padded, loose bits, mixed case, a path, a URL, white space: there is one spelling."""
    with pytest.raises(InvalidCid) as caught:
        check_cid(text)
    assert caught.value.permanent
    assert caught.value.message.isprintable()
    assert repr(text[:40])[:-1] in str(caught.value)


@pytest.mark.parametrize("value", [None, 1, b"Qm", [V0]])
def test_a_cid_is_a_str(value: object) -> None:
    """None is for the caller to tell apart."""
    with pytest.raises(InvalidCid, match="must be a str"):
        check_cid(value)


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.sampled_from(ENCODINGS))
def test_digest_of_a_raw_cid(digest: bytes, encoding: str) -> None:
    """In any base; what a file's own SHA-256 is compared with."""
    assert sha256_digest_of_raw(raw_cid(digest, encoding)) == digest.hex()


def test_digest_of_real_content() -> None:
    """As IPFS makes it of a small file with raw leaves: codec raw, sha2-256."""
    content = b"hello\n"
    text = "b" + base64.b32encode(RAW + SHA2_256 + hashlib.sha256(content).digest()).decode().lower().rstrip(
        "="
    )
    assert sha256_digest_of_raw(text) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("text", [V0, V1_PB, "f0155000568656c6c6f", "f01551340" + "ab" * 64])
def test_other_cids_have_no_such_digest(text: str) -> None:
    """dag-pb hashes IPFS's own tree; identity and SHA-512 are no SHA-256."""
    assert sha256_digest_of_raw(text) is None


@settings(deadline=None, max_examples=400)
@given(st.binary(min_size=32, max_size=32), st.sampled_from(ENCODINGS), st.data())
def test_a_changed_letter_is_another_cid_or_none(digest: bytes, encoding: str, data: st.DataObject) -> None:
    """No two texts of one base stand for the same CID."""
    text = raw_cid(digest, encoding)
    place = data.draw(st.integers(1, len(text) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = text[:place] + letter + text[place + 1 :]
    try:
        found = sha256_digest_of_raw(changed)
    except InvalidCid:
        return
    assert changed == text or found != digest.hex()


@settings(deadline=None, max_examples=400)
@given(st.text(max_size=80) | st.from_regex("[fFbBcCvVtTkKzZmMuUQ][A-Za-z0-9+/=_-]{0,70}", fullmatch=True))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever the library meets."""
    with suppress(InvalidCid):
        assert check_cid(text) == text


DIGESTS = st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"\xff" * 32])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([b"\x12\x20", b"\x12\x1f", b"\x12\x21", b"\x11\xff"]), DIGESTS)
def test_every_sha_256_is_a_cidv0(prefix: bytes, digest: bytes) -> None:
    """From the lowest to the highest, and nothing beside them: base58 as the library writes it."""
    text = base58.b58encode(prefix + digest).decode()
    is_cid = prefix == SHA2_256
    try:
        assert check_cid(text) == text
        assert is_cid
    except InvalidCid:
        assert not is_cid


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([0x55, 0x70, 0x71, 0x00, 0x7F]), st.sampled_from([0x12, 0x13, 0x16]), DIGESTS)
def test_usual_cids_are_read_as_the_library_reads_them(codec: int, hashed_by: int, digest: bytes) -> None:
    """The short way for base32 says what the library says of the same bytes in base16, or leaves it to it."""
    data = bytes([1, codec, hashed_by, 32]) + digest
    found = []
    for encoding in ("base32", "base16"):
        text = multibase.encode(encoding, data).decode()
        try:
            found.append((check_cid(text) == text, sha256_digest_of_raw(text)))
        except InvalidCid:
            found.append((False, None))
    assert found[0] == found[1]
    assert (cid._usual(multibase.encode("base32", data).decode()) is not None) is (
        codec in (0x55, 0x70) and hashed_by == 0x12
    )


def test_the_library_is_imported_at_the_first_cid() -> None:
    """An issuer's API that queues without CIDs does not pay for it."""
    code = (
        "import sys, pipeline.cid; sys.exit('multiformats_cid' in sys.modules or 'multibase' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

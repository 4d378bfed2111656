"""The anchor receipt: what a holder keeps, and anyone can check without this software.

Its shape is fixed, in ``receipt.schema.json`` beside this file; `pipeline.proof` checks what it
says. A receipt of a mock write has no chain, says so, and never verifies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline import merkle, strict_json
from pipeline.errors import InvalidCredentialId, InvalidReceipt
from pipeline.intake import check_credential_id
from pipeline.strict_json import JsonFault

TYPE = "credential-pipeline-receipt"
VERSION = 1
#: More than these siblings the registry takes of nobody: a tree of 4 billion leaves.
MAX_PROOF = 32
#: The largest that this program makes has about 10,000.
MAX_RECEIPT_BYTES = 64 * 1024

_CONSTANTS: Mapping[str, Any] = {
    "hash_algorithm": "sha-256",
    "canonicalization": "RFC8785",
    "leaf_encoding": list(merkle.LEAF_ENCODING),
}
_CHAIN_KEYS = (
    "chain_id",
    "contract_address",
    "issuer",
    "transaction_hash",
    "block_number",
    "block_hash",
    "block_time",
)

_BYTES32 = re.compile("0x[0-9A-Fa-f]{64}")
_ADDRESS = re.compile("0x[0-9A-Fa-f]{40}")
_CHAIN_ID = re.compile("eip155:([1-9][0-9]{0,31})")
_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_CID = re.compile("[!-~]{0,1024}")


@dataclass(frozen=True, slots=True)
class Anchoring:
    """Where a root was anchored; hashes and addresses with ``0x``, ``block_time`` in seconds since 1970."""

    chain_id: int
    contract_address: str
    issuer: str
    transaction_hash: str
    block_number: int
    block_hash: str
    block_time: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt's parts; each of bytes has 32, ``ipfs_cid`` is ``""`` for none."""

    credential_id: str
    data_hash: bytes
    ipfs_cid: str
    salt: bytes = field(repr=False)
    leaf: bytes
    merkle_proof: tuple[bytes, ...] = field(repr=False)
    merkle_root: bytes
    #: None for a mock write.
    anchoring: Anchoring | None
    #: Whether the chain can not lose the block any more.
    final: bool
    #: Whether the issuer's program had the document, and not its hash alone.
    document_checked: bool

    def as_json(self) -> dict[str, Any]:
        """The receipt as ``receipt.schema.json`` describes it."""
        return {
            "type": TYPE,
            "version": VERSION,
            "mock": self.anchoring is None,
            "final": self.final,
            "document_checked": self.document_checked,
            **_CONSTANTS,
            "leaf_values": [self.credential_id, _hex(self.data_hash), self.ipfs_cid, _hex(self.salt)],
            "leaf": _hex(self.leaf),
            "merkle_proof": [_hex(sibling) for sibling in self.merkle_proof],
            "merkle_root": _hex(self.merkle_root),
            **_anchoring_as_json(self.anchoring),
        }


def build_receipt(
    *,
    credential_id: str,
    data_hash: str,
    ipfs_cid: str | None,
    salt: bytes,
    merkle_proof: Sequence[bytes],
    merkle_root: bytes,
    anchoring: Anchoring | None,
    final: bool,
    document_checked: bool,
) -> dict[str, Any]:
    """The receipt of an anchored credential, as JSON; ``anchoring`` None for a mock write.

    ``data_hash`` has 64 hex digits, ``salt``, ``merkle_root`` and each sibling 32 bytes. Raises
    `InvalidReceipt` when the parts do not belong together: no such receipt may leave.
    """
    digest = bytes.fromhex(data_hash)
    leaf = merkle.leaf_hash(credential_id, digest, ipfs_cid or "", salt)
    if not merkle.verify(merkle_root, leaf, merkle_proof):
        raise InvalidReceipt(f"credential {credential_id!r}: its leaf does not lead to {_hex(merkle_root)}")
    return Receipt(
        credential_id=credential_id,
        data_hash=digest,
        ipfs_cid=ipfs_cid or "",
        salt=salt,
        leaf=leaf,
        merkle_proof=tuple(merkle_proof),
        merkle_root=merkle_root,
        anchoring=anchoring,
        final=final,
        document_checked=document_checked,
    ).as_json()


def recognise(found: object) -> Mapping[str, Any]:
    """``found``, when it calls itself a receipt of a version known here. Raises `InvalidReceipt`."""
    if not isinstance(found, Mapping) or found.get("type") != TYPE:
        raise InvalidReceipt(f'receipt: is not an object with the type "{TYPE}"')
    version = found.get("version")
    if type(version) is not int or version != VERSION:
        raise InvalidReceipt(f"receipt: has the version {str(version)[:20]!r}; known here is {VERSION}")
    return found


def parse_receipt(text: str | bytes) -> Mapping[str, Any]:
    """The receipt in a JSON text, read strictly. Raises `InvalidReceipt`, as `recognise` does."""
    try:
        found = strict_json.read(text, max_bytes=MAX_RECEIPT_BYTES)
        strict_json.check(found)
    except JsonFault as fault:
        raise InvalidReceipt(f"receipt: {fault}") from None
    return recognise(found)


def check_receipt(found: object) -> Receipt:
    """Read a receipt, as decoded from JSON; keys that are not known are left alone.

    Raises `InvalidReceipt` naming the key and the rule. Whether what it says is true is for
    `pipeline.proof.verify` to find out.
    """
    parts = recognise(found)
    for key, constant in _CONSTANTS.items():
        if parts.get(key) != constant:
            raise _fault(key, f"must be {constant!r}")
    credential_id, data_hash, ipfs_cid, salt = _leaf_values(parts)
    return Receipt(
        credential_id=credential_id,
        data_hash=data_hash,
        ipfs_cid=ipfs_cid,
        salt=salt,
        leaf=_bytes32("leaf", parts.get("leaf")),
        merkle_proof=_proof(parts),
        merkle_root=_bytes32("merkle_root", parts.get("merkle_root")),
        anchoring=_anchoring(parts),
        final=_flag("final", parts),
        document_checked=_flag("document_checked", parts),
    )


def _leaf_values(parts: Mapping[str, Any]) -> tuple[str, bytes, str, bytes]:
    values = parts.get("leaf_values")
    if not isinstance(values, list) or len(values) != len(merkle.LEAF_ENCODING):
        raise _fault("leaf_values", "must be an array of 4")
    try:
        credential_id = check_credential_id(values[0])
    except InvalidCredentialId as exc:
        raise _fault("leaf_values[0]", str(exc)) from None
    ipfs_cid = _matching("leaf_values[2]", values[2], _CID, "must be an IPFS CID or empty")[0]
    data_hash, salt = (_bytes32(f"leaf_values[{place}]", values[place]) for place in (1, 3))
    return credential_id, data_hash, ipfs_cid, salt


def _proof(parts: Mapping[str, Any]) -> tuple[bytes, ...]:
    siblings = parts.get("merkle_proof")
    if not isinstance(siblings, list) or len(siblings) > MAX_PROOF:
        raise _fault("merkle_proof", f"must be an array of at most {MAX_PROOF}")
    return tuple(_bytes32(f"merkle_proof[{place}]", sibling) for place, sibling in enumerate(siblings))


def _anchoring(parts: Mapping[str, Any]) -> Anchoring | None:
    if _flag("mock", parts):
        for key in _CHAIN_KEYS:
            if key not in parts or parts[key] is not None:
                raise _fault(key, "must be null in a mock receipt")
        return None
    number = parts.get("block_number")
    if type(number) is not int or number < 0:
        raise _fault("block_number", "must be an integer from 0")
    return Anchoring(
        chain_id=int(
            _matching("chain_id", parts.get("chain_id"), _CHAIN_ID, "must be eip155: and a number")[1]
        ),
        contract_address=_address("contract_address", parts),
        issuer=_address("issuer", parts),
        transaction_hash=_hex(_bytes32("transaction_hash", parts.get("transaction_hash"))),
        block_number=number,
        block_hash=_hex(_bytes32("block_hash", parts.get("block_hash"))),
        block_time=_time("block_time", parts),
    )


def _anchoring_as_json(anchoring: Anchoring | None) -> dict[str, Any]:
    if anchoring is None:
        return dict.fromkeys(_CHAIN_KEYS)
    return {
        "chain_id": f"eip155:{anchoring.chain_id}",
        "contract_address": anchoring.contract_address,
        "issuer": anchoring.issuer,
        "transaction_hash": anchoring.transaction_hash,
        "block_number": anchoring.block_number,
        "block_hash": anchoring.block_hash,
        "block_time": f"{datetime.fromtimestamp(anchoring.block_time, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _flag(key: str, parts: Mapping[str, Any]) -> bool:
    value = parts.get(key)
    if not isinstance(value, bool):
        raise _fault(key, "must be true or false")
    return value


def _address(key: str, parts: Mapping[str, Any]) -> str:
    return _matching(key, parts.get(key), _ADDRESS, "must be 0x and 40 hex digits")[0]


def _bytes32(key: str, value: object) -> bytes:
    return bytes.fromhex(_matching(key, value, _BYTES32, "must be 0x and 64 hex digits")[0][2:])


def _time(key: str, parts: Mapping[str, Any]) -> int:
    rule = "must be a UTC time like 2026-01-31T23:59:59Z"
    text = _matching(key, parts.get(key), _TIME, rule)[0]
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise _fault(key, rule) from None


def _matching(key: str, value: object, pattern: re.Pattern[str], rule: str) -> re.Match[str]:
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _fault(key, rule)
    return found


def _fault(key: str, rule: str) -> InvalidReceipt:
    return InvalidReceipt(f"receipt: {key}: {rule}")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()

"""Calls of the CredentialRegistry contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from pipeline.chain import anchoring
from pipeline.chain.contracts import registry_artifact
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.chain.wire import Request
from pipeline.errors import NoContract

#: The contract's own words, without "registry: ".
NOT_AN_ISSUER = "not an issuer"
ALREADY_ANCHORED = "already anchored"

ROOT_BYTES = 32

#: The code under which nodes say that a call reverted; geth's, and most others' by now.
REVERTED = 3
#: Solidity's and Vyper's ``Error(string)``.
_ERROR_STRING = "0x08c379a0"
_IN_TEXT = re.compile(r"registry: (?P<reason>[\w' ]+)")
#: How nodes tell that a call was run and failed, and not that they could not run it.
_FAILED = re.compile(r"revert|opcode|evm error|out of gas|stack (under|over)flow|invalid jump", re.IGNORECASE)


class RevertKind(StrEnum):
    """What the contract's error means for whoever sent the transaction."""

    NOT_AN_ISSUER = "not_an_issuer"
    ALREADY_ANCHORED = "already_anchored"
    #: The same call would succeed now.
    OVER = "over"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Revert:
    """Why a transaction of status 0 failed; ``reason`` is the contract's words, without "registry: "."""

    kind: RevertKind
    reason: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """Who anchored a root, and the timestamp of that block, in seconds since 1970."""

    issuer: str
    timestamp: int


class Registry:
    """The registry at one address. Reads raise `NodeUnreachable`, `NoContract`, `RpcError`."""

    def __init__(self, rpc: RpcClient, address: str) -> None:
        self._rpc = rpc
        self.address = address

    def is_anchored(self, root: bytes) -> bool:
        """Whether this Merkle root was ever anchored, by whomever."""
        return bool(self._read("isAnchored", root)[0])

    def anchored_by(self, root: bytes) -> Anchor | None:
        """Who anchored the root, and when; None when nobody did."""
        from eth_utils.address import to_checksum_address

        issuer, timestamp = self._read("anchoredBy", root)
        return Anchor(to_checksum_address(issuer), timestamp) if timestamp else None

    def is_revoked(self, root: bytes, leaf: bytes) -> bool:
        """Whether the root, or this leaf of it, was revoked."""
        return bool(self._read("isRevoked", root, leaf)[0])

    def is_issuer(self, address: str) -> bool:
        """Whether that account may anchor."""
        return bool(self._read("isIssuer", address)[0])

    def verify_credential(
        self,
        root: bytes,
        credential_id: str,
        data_hash: bytes,
        ipfs_cid: str,
        salt: bytes,
        proof: Sequence[bytes],
    ) -> bool:
        """Whether the contract finds the credential under an anchored root, neither revoked.

        ``data_hash``, ``salt`` and each part of ``proof`` are 32 bytes; ``ipfs_cid`` "" for none.
        """
        values = (root, credential_id, data_hash, ipfs_cid, salt, list(proof))
        return bool(self._read("verifyCredential", *values)[0])

    def anchoring_transaction(self, root: bytes) -> str | None:
        """The hash of the transaction that anchored ``root``; see `pipeline.chain.anchoring.find`."""
        return anchoring.find(self._rpc, self, root)

    def anchor_calldata(self, root: bytes) -> bytes:
        """What a transaction to the registry carries in order to anchor ``root`` (32 bytes)."""
        if len(root) != ROOT_BYTES:
            raise ValueError(f"a root of {len(root)} bytes")
        return selector("anchor") + root  # a ``bytes32`` stands for itself

    def request(self, name: str, *values: Any, block: str = "latest") -> Request:
        """The ``eth_call`` of a view, for a batch; `decode` reads its result."""
        return "eth_call", [{"to": self.address, "data": "0x" + encode(name, *values).hex()}, block]

    def decode(self, name: str, result: Any) -> tuple[Any, ...]:
        """What a view returned. Raises `NoContract` when it is not what a registry returns."""
        from eth_abi.abi import decode
        from eth_abi.exceptions import DecodingError

        if isinstance(result, RpcError):
            if revert_text(result) is None:
                raise result
            raise NoContract(f"the contract at {self.address} is not a CredentialRegistry")
        data = bytes.fromhex(result.removeprefix("0x"))
        if not data:
            raise NoContract(f"there is no contract at {self.address}")
        try:
            return tuple(decode(_types(name)[1], data))
        except (DecodingError, UnicodeDecodeError, OverflowError):
            raise NoContract(f"the contract at {self.address} is not a CredentialRegistry") from None

    def _read(self, name: str, *values: Any) -> tuple[Any, ...]:
        return self.decode(name, self._rpc.batch([self.request(name, *values)])[0])


def revert_of(reason: str | None) -> Revert:
    """What it means that a call failed for ``reason``."""
    kinds = {NOT_AN_ISSUER: RevertKind.NOT_AN_ISSUER, ALREADY_ANCHORED: RevertKind.ALREADY_ANCHORED}
    return Revert(kinds.get(reason or "", RevertKind.OTHER), reason or "it gave no reason")


def encode(name: str, *values: Any) -> bytes:
    """The calldata of a call of the registry: selector and arguments (ABI)."""
    from eth_abi.abi import encode

    return selector(name) + encode(_types(name)[0], values)


@cache
def selector(name: str) -> bytes:
    """The four bytes by which the registry knows a function."""
    from eth_utils.crypto import keccak

    return bytes(keccak(text=f"{name}({','.join(_types(name)[0])})")[:4])


def revert_text(error: RpcError) -> str | None:
    """Why a call failed, in the contract's words without "registry: "; None: the node did not run it.

    An empty text: it failed without a word, as one that runs out of gas does.
    """
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    if isinstance(error.data, str) and error.data.startswith(_ERROR_STRING):
        try:
            (reason,) = decode(["string"], bytes.fromhex(error.data.removeprefix(_ERROR_STRING)))
        except (DecodingError, ValueError):
            return ""
        return str(reason).removeprefix("registry: ")
    if found := _IN_TEXT.search(error.words):
        return found["reason"].strip()
    return "" if _FAILED.search(error.words) else None


def was_run(error: RpcError) -> bool:
    """Whether a node shows that it has run a call, which failed: by geth's code for it, or by revert data.

    That is more than its words, which are not enough to contradict anybody: "out of gas" may be what the
    node itself has run out of.
    """
    return error.rpc_code == REVERTED or (isinstance(error.data, str) and error.data.startswith("0x"))


@cache
def _types(name: str) -> tuple[list[str], list[str]]:
    """The ABI types of a function's arguments and results."""
    entry = next(
        item for item in registry_artifact().abi if item.get("name") == name and item["type"] == "function"
    )
    return [item["type"] for item in entry["inputs"]], [item["type"] for item in entry["outputs"]]

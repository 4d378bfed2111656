"""Whether a receipt is true: document → hash → leaf → root → registry → issuer → revocation.

For anyone who holds a receipt and can reach a node; no database, no Redis. A verdict is
``invalid`` only where something contradicts the receipt. A node that is down, lags behind or
serves another chain contradicts nothing, nor does a document that our reader can not read: ``unknown``.

The other side, `receipt` and `batch_dump`, is the issuer's: it reads the ledger, which only they load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline import hashing, merkle, strict_json
from pipeline.errors import InvalidDocument, InvalidReceipt
from pipeline.receipt import Anchoring, Receipt, build_receipt, check_receipt, parse_receipt, recognise
from pipeline.strict_json import JsonFault, LimitFault
from pipeline.verdict import Verdict

__all__ = [
    "Anchoring",
    "Receipt",
    "Verdict",
    "batch_dump",
    "build_receipt",
    "check_receipt",
    "parse_receipt",
    "receipt",
    "verify",
    "verify_offline",
]


def receipt(credential_id: str) -> dict[str, Any]:
    """The receipt of the credential's newest completed write, as ``receipt.schema.json`` describes it.

    Raises `UnknownCredential`, `NotAnchored` while none is completed, and `CredentialErased`.
    """
    from pipeline.anchors import receipt_of

    return receipt_of(credential_id)


def batch_dump(merkle_root: str) -> dict[str, Any]:
    """The ``standard-v1`` dump of a completed batch; raises as `pipeline.dump.dump_of` does."""
    from pipeline.dump import dump_of

    return dump_of(merkle_root)


def verify_offline(receipt: object, document: bytes | str | None = None) -> Verdict:
    """Check what needs no chain: the receipt's shape, the document, its leaf, the proof.

    ``receipt`` is a `Receipt`, or one as decoded from JSON; ``document`` the JSON text (bytes are
    UTF-8). ``valid`` here means only that nothing is wrong so far. A receipt of a mock write is
    ``invalid``. Raises `InvalidReceipt` for what is no receipt at all, or of an unknown version.
    """
    parts = _read(receipt)
    return parts if isinstance(parts, Verdict) else _check_offline(parts, document)


def verify(receipt: object, document: bytes | str | None = None, *, rpc_urls: Sequence[str]) -> Verdict:
    """Check everything, asking the registry through each of ``rpc_urls``, all at once.

    Nodes that can tell have to agree; what the others say is a note. The registry and the proof
    decide: that the block has moved is another note. The caller still has to know that the
    registry and the issuer named in the receipt are those it trusts. Raises as `verify_offline`.
    """
    parts = _read(receipt)
    if isinstance(parts, Verdict):
        return parts
    offline = _check_offline(parts, document)
    if offline.verdict != "valid":
        return offline
    from pipeline.witness import ask_all

    return _agreed(ask_all(list(dict.fromkeys(rpc_urls)), parts))


def _read(receipt: object) -> Receipt | Verdict:
    """The receipt, or why a damaged one is invalid."""
    if isinstance(receipt, Receipt):
        return receipt
    found = recognise(receipt)
    try:
        return check_receipt(found)
    except InvalidReceipt as exc:
        return Verdict("invalid", "receipt", exc.message)


def _check_offline(receipt: Receipt, document: bytes | str | None) -> Verdict:
    if receipt.anchoring is None:
        return Verdict("invalid", "receipt", "a mock receipt: nothing was written to any chain")
    fault = _document_fault(receipt, document) if document is not None else None
    if fault and fault.verdict == "invalid":
        return fault
    leaf = merkle.leaf_hash(receipt.credential_id, receipt.data_hash, receipt.ipfs_cid, receipt.salt)
    if leaf != receipt.leaf:
        return Verdict("invalid", "leaf", "the leaf is not the hash of leaf_values")
    if not merkle.verify(receipt.merkle_root, leaf, receipt.merkle_proof):
        return Verdict("invalid", "proof", "the proof does not lead from the leaf to the root")
    return fault or Verdict("valid")


def _document_fault(receipt: Receipt, document: bytes | str) -> Verdict | None:
    """Why this is not the document of the receipt, or why nobody can tell here; None when it is."""
    expected = receipt.data_hash.hex()
    # The canonical form itself may hold digits that are refused in a document: 1e20 is written
    # as an integer there. Whoever has the very bytes that were hashed has the document.
    encoded = document.encode(errors="surrogatepass") if isinstance(document, str) else document
    if hashlib.sha256(encoded).hexdigest() == expected:
        return None
    try:
        found = hashing.document_hash(hashing.parse_document(document))
    except InvalidDocument as exc:
        return Verdict("unknown" if _is_beyond_limits(document) else "invalid", "document", exc.message)
    if found == expected:
        return None
    return Verdict("invalid", "document", f"the document's hash is {found}, the receipt has {expected}")


def _is_beyond_limits(document: bytes | str) -> bool:
    """Whether only our own reader refuses it: it may have been hashed by another."""
    try:
        strict_json.check(strict_json.read(document, max_bytes=hashing.MAX_DOCUMENT_BYTES))
    except JsonFault as fault:
        return isinstance(fault, LimitFault)
    return False


def _agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from those of several nodes."""
    told = [verdict for verdict in verdicts if verdict.verdict != "unknown"]
    silent = [
        replace(verdict, reason=f"a node could not tell: {verdict.reason}")
        for verdict in verdicts
        if verdict.verdict == "unknown"
    ]
    if not verdicts:
        return Verdict("unknown", "chain", "there is no node to ask")
    if not told:
        return Verdict("unknown", silent[0].step, _joined(silent))
    first = next((verdict for verdict in told if verdict.verdict != "valid"), told[0])
    if len({(verdict.verdict, verdict.step) for verdict in told}) > 1:
        opinions = "; ".join(f"{one.verdict} ({one.reason or 'nothing is wrong'})" for one in told)
        return Verdict("unknown", first.step, f"the nodes disagree: {opinions}")
    return Verdict(first.verdict, first.step, _joined([*told, *silent]))


def _joined(verdicts: Sequence[Verdict]) -> str | None:
    return "; ".join(dict.fromkeys(verdict.reason for verdict in verdicts if verdict.reason)) or None

"""The receipt of a completed write, from the ledger: proofs are slices of stored trees."""

from __future__ import annotations

from typing import Any

from pipeline.database import reading
from pipeline.errors import CredentialErased, NotAnchored, UnknownCredential
from pipeline.models import Batch, State, Write
from pipeline.receipt import Anchoring, build_receipt
from pipeline.settings import get_settings
from pipeline.status import NEWEST_FIRST, proof_of


@reading
def receipt_of(credential_id: str) -> dict[str, Any]:
    """The receipt of the credential's newest completed write.

    Raises `UnknownCredential`, `NotAnchored` while none is completed, and `CredentialErased`.
    """
    writes = Write.select(Write, Batch).join(Batch).where(Write.credential_id == credential_id)
    write: Any = writes.where(Write.state == State.CONFIRMED).order_by(*NEWEST_FIRST).first()
    if write is None:
        if not Write.select().where(Write.credential_id == credential_id).exists():
            raise UnknownCredential(f"credential {credential_id!r}: nothing was ever queued for it")
        raise NotAnchored(f"credential {credential_id!r}: its write is not completed")
    if write.salt is None:
        raise CredentialErased(
            f"credential {credential_id!r}: it was erased, and no receipt can be made without its salt; "
            "one that its holder has kept still verifies"
        )
    batch = write.batch
    return build_receipt(
        credential_id=credential_id,
        data_hash=write.data_hash,
        ipfs_cid=write.ipfs_cid,
        salt=bytes(write.salt),
        merkle_proof=proof_of(batch, bytes(write.leaf)),
        merkle_root=bytes.fromhex(batch.merkle_root[2:]),
        anchoring=None if batch.mock else _anchoring(batch),
        final=not batch.mock and _is_final(batch),
        document_checked=bool(write.document_checked),
    )


def _anchoring(batch: Any) -> Anchoring:
    return Anchoring(
        chain_id=batch.chain_id,
        contract_address=batch.contract_address,
        issuer=batch.issuer,
        transaction_hash=batch.transaction_hash,
        block_number=batch.block_number,
        block_hash=batch.block_hash,
        block_time=int(batch.block_time),
    )


def _is_final(batch: Any) -> bool:
    """Whether the watch has ended, or the confirmation itself waited for finality."""
    return batch.final_at is not None or get_settings().blockchain_confirmations == "finalized"

"""Issue and sync: a credential and its queued write in one SQL transaction.

A crash between the commit and the message loses nothing: the row is there, and is sent later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
from pipeline.database import transaction
from pipeline.errors import ConflictingWrite
from pipeline.intake import CredentialRecord
from pipeline.ledger import credentials
from pipeline.ledger.queueing import QueuedWrite
from pipeline.queueing import queue_many
from pipeline.settings import get_settings


def issue(
    credential_id: str,
    document: Mapping[str, Any] | None,
    *,
    data_hash: str | None = None,
    ipfs_cid: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: str = "normal",
) -> str:
    """Store a credential and queue its write; returns the job id.

    Without ``data_hash`` it is the document's. Raises `InvalidInput` with its subclasses (among
    them `HashMismatch`) and `ConflictingWrite`; then nothing is stored.
    """
    record = CredentialRecord.of(
        credential_id,
        document,
        data_hash=data_hash,
        ipfs_cid=ipfs_cid,
        metadata=metadata,
        priority=priority,
        cid_digest_check=get_settings().cid_digest_check,
    )
    return store_and_queue([record])[0].job_id


def sync(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Store and queue many, all or nothing; returns the job ids in the order of ``items``.

    An item has the names of `issue`'s arguments. Raises as `issue` does, naming the position.
    """
    check = get_settings().cid_digest_check
    records = [
        CredentialRecord.from_item(item, position, cid_digest_check=check)
        for position, item in enumerate(items)
    ]
    return [queued.job_id for queued in store_and_queue(records)]


@transaction
def store_and_queue(records: Sequence[CredentialRecord]) -> list[QueuedWrite]:
    """Store checked credentials and queue them, in one transaction, in order."""
    _refuse_contradictions(records)
    credentials.store(records)
    return queue_many([record.request for record in records])


def _refuse_contradictions(records: Sequence[CredentialRecord]) -> None:
    seen: dict[str, CredentialRecord] = {}
    for record in records:
        first = seen.setdefault(record.credential_id, record)
        if (first.data_hash, first.ipfs_cid) != (record.data_hash, record.ipfs_cid):
            raise ConflictingWrite(
                f"credential {record.credential_id!r}: handed in twice, with different hashes or CIDs"
            )

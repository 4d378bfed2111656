"""The issuer's rows, written together with their writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from peewee import SQL

from pipeline.database import is_sqlite, transaction
from pipeline.errors import ConflictingWrite
from pipeline.intake import CredentialRecord
from pipeline.ledger.metadata import POSTGRESQL_OBJECT, read_object
from pipeline.ledger.sql import chunks, lock_credentials, rows
from pipeline.models import Credential, State, Write, utc_now


@transaction
def store(records: Sequence[CredentialRecord]) -> None:
    """Insert the credentials; of known ones, replace document, hash, CID, and the metadata's given keys.

    All other keys stay, with those that say where a credential is anchored. Raises
    `ConflictingWrite` when a write of other content is pending.
    """
    lock_credentials([record.credential_id for record in records])
    for conflict in conflicts(records).values():
        raise conflict
    for part in chunks(records, 200):
        _upsert(part)


def conflicts(records: Sequence[CredentialRecord]) -> dict[str, ConflictingWrite]:
    """The credentials of which a write of other content is pending, each with its error."""
    found: dict[str, ConflictingWrite] = {}
    wanted = {record.credential_id: record.request for record in records}
    for part in chunks(list(wanted)):
        pending = rows(
            Write.select(Write.credential_id, Write.job_id, Write.data_hash, Write.ipfs_cid).where(
                Write.credential_id.in_(part), Write.state.in_(State.PENDING)
            )
        )
        for credential_id, job_id, data_hash, ipfs_cid in pending:
            request = wanted[credential_id]
            if (request.data_hash, request.ipfs_cid) != (data_hash, ipfs_cid):
                found[credential_id] = ConflictingWrite(
                    f"credential {credential_id!r}: job {job_id} with data hash {data_hash} "
                    f"and CID {ipfs_cid} is pending"
                )
    return found


def _metadata_of(credential_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is stored: SQLite's own merge goes into objects, and takes a null for a removal."""
    query = Credential.select(Credential.id, Credential.metadata).where(Credential.id.in_(credential_ids))
    return {id_: read_object(text) for id_, text in rows(query)}


def _upsert(records: Sequence[CredentialRecord]) -> None:
    now = utc_now()
    unique = {record.credential_id: record for record in records}
    kept = _metadata_of(list(unique)) if is_sqlite() else {}
    values = [
        {
            "id": record.credential_id,
            "document": record.document_text,
            "data_hash": record.data_hash,
            "ipfs_cid": record.ipfs_cid,
            "metadata": json.dumps({**kept.get(record.credential_id, {}), **record.metadata}),
            "created_at": now,
            "updated_at": now,
        }
        for record in unique.values()
    ]
    merged = "EXCLUDED.metadata" if is_sqlite() else f"{POSTGRESQL_OBJECT} || EXCLUDED.metadata::jsonb"
    Credential.insert_many(values).on_conflict(
        conflict_target=[Credential.id],
        preserve=[Credential.data_hash, Credential.ipfs_cid, Credential.updated_at],
        update={
            Credential.metadata: SQL(merged),
            # A record without its document does not take away the one that is there.
            Credential.document: SQL("coalesce(EXCLUDED.document, credentials.document)"),
        },
    ).execute()

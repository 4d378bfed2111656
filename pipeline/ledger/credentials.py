"""The issuer's rows, written together with their writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.database import database, is_sqlite, transaction
from pipeline.errors import ConflictingWrite
from pipeline.intake import CredentialRecord
from pipeline.ledger.metadata import POSTGRESQL_OBJECT, read_object
from pipeline.ledger.sql import LINE, among, chunks, lock_credentials, rows
from pipeline.models import Credential, State, Write, utc_now

#: A record without its document does not take away the one that is there.
ON_CONFLICT = """
ON CONFLICT (id) DO UPDATE SET data_hash = EXCLUDED.data_hash, ipfs_cid = EXCLUDED.ipfs_cid,
    updated_at = EXCLUDED.updated_at, document = coalesce(EXCLUDED.document, credentials.document),
    metadata = """

COLUMNS = "id, document, data_hash, ipfs_cid, metadata, created_at, updated_at"

#: Each column's values are lines, as no checked text has a line end, nor JSON that was just written.
#: Of the type json they fit a column of the type jsonb or text as well.
POSTGRESQL_UPSERT = (
    """
INSERT INTO credentials (COLUMNS)
SELECT id, nullif(document, '')::json, hash, nullif(cid, ''), metadata::json, %s, %s
FROM unnest(string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n'),
    string_to_array(%s, E'\\n'), string_to_array(%s, E'\\n')) AS given (id, document, hash, cid, metadata)
""".replace("COLUMNS", COLUMNS)
    + ON_CONFLICT
    + f"{POSTGRESQL_OBJECT} || EXCLUDED.metadata::jsonb"
)

SQLITE_UPSERT = """
INSERT INTO credentials (COLUMNS) VALUES (?, ?, ?, ?, ?, ?, ?) ON_CONFLICT EXCLUDED.metadata
""".replace("COLUMNS", COLUMNS).replace("ON_CONFLICT", ON_CONFLICT)


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
                among(Write.credential_id, part), Write.state.in_(State.PENDING)
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
    """With fixed statements: to let peewee build one of 200 rows costs many times what it takes to run."""
    unique = {record.credential_id: record for record in records}
    if is_sqlite():
        _upsert_on_sqlite(unique)
        return
    now = utc_now()
    columns = (
        list(unique),
        [record.document_text or "" for record in unique.values()],
        [record.data_hash for record in unique.values()],
        [record.ipfs_cid or "" for record in unique.values()],
        [json.dumps(record.metadata) for record in unique.values()],
    )
    database.execute_sql(POSTGRESQL_UPSERT, (now, now, *map(LINE.join, columns)))


def _upsert_on_sqlite(unique: Mapping[str, CredentialRecord]) -> None:
    now = str(utc_now())
    kept = _metadata_of(list(unique))
    for id_, record in unique.items():
        metadata = json.dumps({**kept.get(id_, {}), **record.metadata})
        parts = (id_, record.document_text, record.data_hash, record.ipfs_cid, metadata, now, now)
        database.execute_sql(SQLITE_UPSERT, parts)

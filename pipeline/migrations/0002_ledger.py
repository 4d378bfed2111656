"""The ledger: writes, batches, signers' nonces, transactions, dead letters."""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "real": "REAL"}
POSTGRESQL = {"id": "BIGSERIAL NOT NULL PRIMARY KEY", "bytes": "BYTEA", "real": "DOUBLE PRECISION"}

STATEMENTS = (
    """
    CREATE TABLE batches (
        id {id},
        lane TEXT NOT NULL CHECK (lane IN ('urgent', 'normal')),
        state TEXT NOT NULL
            CHECK (state IN ('open', 'full', 'submitted', 'settled', 'confirmed', 'failed')),
        size INTEGER NOT NULL,
        created_at {real} NOT NULL,
        due_at {real} NOT NULL,
        sent_at {real} NOT NULL,
        retrying BOOLEAN NOT NULL,
        reason TEXT,
        mock BOOLEAN NOT NULL,
        merkle_root TEXT,
        chain_id BIGINT,
        contract_address TEXT,
        issuer TEXT,
        submitted_at {real},
        transaction_hash TEXT,
        block_number BIGINT,
        block_hash TEXT,
        block_time {real},
        confirmations INTEGER NOT NULL,
        gas_used BIGINT,
        gas_price_wei TEXT,
        confirmed_at {real}
    )
    """,
    "CREATE UNIQUE INDEX batches_one_open_per_lane ON batches (lane) WHERE state = 'open'",
    "CREATE UNIQUE INDEX batches_one_live_per_root ON batches (merkle_root) WHERE state <> 'failed'",
    "CREATE INDEX batches_live ON batches (state, due_at) WHERE state NOT IN ('confirmed', 'failed')",
    """
    CREATE TABLE writes (
        id {id},
        job_id TEXT NOT NULL UNIQUE,
        credential_id TEXT NOT NULL,
        data_hash TEXT NOT NULL,
        ipfs_cid TEXT,
        salt {bytes},
        leaf {bytes},
        priority TEXT NOT NULL CHECK (priority IN ('urgent', 'normal')),
        own_message BOOLEAN NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'verified', 'written', 'confirmed', 'failed')),
        attempts INTEGER NOT NULL,
        batch_id BIGINT REFERENCES batches (id),
        document_checked BOOLEAN,
        queued_at {real} NOT NULL,
        updated_at {real} NOT NULL,
        finished_at {real},
        due_at {real},
        sent_at {real} NOT NULL,
        purged_at {real},
        error_code TEXT,
        error_message TEXT,
        error_stage TEXT,
        error_permanent BOOLEAN
    )
    """,
    "CREATE UNIQUE INDEX writes_one_pending_per_credential ON writes (credential_id)"
    " WHERE state IN ('queued', 'verified', 'written')",
    "CREATE INDEX writes_of_credential ON writes (credential_id, id)",
    "CREATE INDEX writes_of_batch ON writes (batch_id) WHERE batch_id IS NOT NULL",
    "CREATE INDEX writes_pending ON writes (state, id) WHERE state IN ('queued', 'verified', 'written')",
    "CREATE INDEX writes_completed ON writes (finished_at, id)"
    " WHERE state = 'confirmed' AND purged_at IS NULL",
    "CREATE INDEX writes_failed ON writes (finished_at, id) WHERE state = 'failed' AND purged_at IS NULL",
    """
    CREATE TABLE signers (
        id {id},
        chain_id BIGINT NOT NULL,
        address TEXT NOT NULL,
        next_nonce BIGINT NOT NULL,
        UNIQUE (chain_id, address)
    )
    """,
    """
    CREATE TABLE transactions (
        id {id},
        batch_id BIGINT REFERENCES batches (id),
        chain_id BIGINT NOT NULL,
        signer TEXT NOT NULL,
        nonce BIGINT NOT NULL,
        hash TEXT NOT NULL UNIQUE,
        raw_transaction TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('signed', 'sent', 'mined', 'reverted')),
        gas_limit BIGINT NOT NULL,
        max_fee_wei TEXT NOT NULL,
        tip_wei TEXT NOT NULL,
        created_at {real} NOT NULL,
        sent_at {real},
        answer TEXT,
        block_number BIGINT,
        block_hash TEXT
    )
    """,
    "CREATE INDEX transactions_unmined ON transactions (chain_id, signer, nonce)"
    " WHERE state IN ('signed', 'sent')",
    "CREATE INDEX transactions_of_batch ON transactions (batch_id)",
    """
    CREATE TABLE dead_letters (
        id {id},
        write_id BIGINT NOT NULL REFERENCES writes (id),
        cause_id TEXT NOT NULL,
        credential_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        stage TEXT NOT NULL,
        error TEXT NOT NULL,
        message TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        permanent BOOLEAN NOT NULL,
        batch_id BIGINT,
        created_at {real} NOT NULL,
        alerted_at {real},
        resolved_at {real},
        resolution TEXT
    )
    """,
    "CREATE UNIQUE INDEX dead_letters_one_open_per_write ON dead_letters (write_id)"
    " WHERE resolved_at IS NULL",
    "CREATE INDEX dead_letters_not_alerted ON dead_letters (cause_id) WHERE alerted_at IS NULL",
    "CREATE INDEX dead_letters_of_credential ON dead_letters (credential_id)",
)


def up(migrator: Any, db: Any) -> None:
    """Make the tables."""
    types = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for table in ("dead_letters", "transactions", "signers", "writes", "batches"):
        db.execute_sql(f"DROP TABLE {table}")

"""What is known of each chain, of its finality, and of what operators have to mend."""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "real": "REAL"}
POSTGRESQL = {"id": "BIGSERIAL NOT NULL PRIMARY KEY", "real": "DOUBLE PRECISION"}

STATEMENTS = (
    "CREATE TABLE chains (chain_id BIGINT NOT NULL PRIMARY KEY, genesis_hash TEXT NOT NULL,"
    " seen_number BIGINT, seen_hash TEXT)",
    "ALTER TABLE batches ADD COLUMN final_at {real}",
    "CREATE INDEX batches_watched ON batches (chain_id, block_number)"
    " WHERE state IN ('settled', 'confirmed') AND final_at IS NULL AND NOT mock",
    "ALTER TABLE writes ADD COLUMN requested_at {real}",
    "ALTER TABLE transactions ADD COLUMN sent_block BIGINT",
    "ALTER TABLE transactions ADD COLUMN missing_since {real}",
    "ALTER TABLE transactions ADD COLUMN lost_at {real}",
    "CREATE INDEX transactions_of_nonce ON transactions (chain_id, signer, nonce)",
    """
    CREATE TABLE incidents (
        id {id},
        event_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('error', 'fatal')),
        message TEXT NOT NULL,
        opened_at {real} NOT NULL,
        alerted_at {real},
        closed_at {real}
    )
    """,
    "CREATE UNIQUE INDEX incidents_one_open ON incidents (kind, subject) WHERE closed_at IS NULL",
    "CREATE INDEX incidents_not_alerted ON incidents (id) WHERE alerted_at IS NULL",
)


def up(migrator: Any, db: Any) -> None:
    """Add the columns and tables."""
    types = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for index in ("transactions_of_nonce", "batches_watched"):
        db.execute_sql(f"DROP INDEX {index}")
    for table in ("incidents", "chains"):
        db.execute_sql(f"DROP TABLE {table}")
    for column in ("sent_block", "missing_since", "lost_at"):
        db.execute_sql(f"ALTER TABLE transactions DROP COLUMN {column}")
    db.execute_sql("ALTER TABLE writes DROP COLUMN requested_at")
    db.execute_sql("ALTER TABLE batches DROP COLUMN final_at")

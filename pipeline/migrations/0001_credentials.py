"""The issuer's table: what was issued, and whether it is on the chain."""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"json": "TEXT", "jsonb": "TEXT", "time": "TIMESTAMP", "now": "CURRENT_TIMESTAMP"}
POSTGRESQL = {"json": "JSON", "jsonb": "JSONB", "time": "TIMESTAMPTZ", "now": "now()"}

TABLE = """
CREATE TABLE IF NOT EXISTS credentials (
    id TEXT NOT NULL PRIMARY KEY,
    document {json},
    data_hash TEXT,
    ipfs_cid TEXT,
    metadata {jsonb} NOT NULL DEFAULT '{{}}',
    created_at {time} NOT NULL DEFAULT {now},
    updated_at {time} NOT NULL DEFAULT {now}
)
"""


def up(migrator: Any, db: Any) -> None:
    """Make the table, unless the issuer has it already."""
    db.execute_sql(TABLE.format(**(SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL)))


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql("DROP TABLE credentials")

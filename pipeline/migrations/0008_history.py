"""What rows do not tell themselves: failed attempts, reorgs, who replayed; and events on their way out."""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "real": "REAL"}
POSTGRESQL = {"id": "BIGSERIAL NOT NULL PRIMARY KEY", "real": "DOUBLE PRECISION"}

STATEMENTS = (
    """
    CREATE TABLE journal (
        id {id},
        at {real} NOT NULL,
        event TEXT NOT NULL,
        actor TEXT NOT NULL,
        write_id BIGINT,
        batch_id BIGINT,
        detail TEXT
    )
    """,
    "CREATE INDEX journal_of_write ON journal (write_id) WHERE write_id IS NOT NULL",
    "CREATE INDEX journal_of_batch ON journal (batch_id) WHERE batch_id IS NOT NULL",
    """
    CREATE TABLE outbox (
        id {id},
        at {real} NOT NULL,
        claimed_at {real},
        event TEXT NOT NULL,
        jobs TEXT NOT NULL,
        detail TEXT NOT NULL
    )
    """,
)


def up(migrator: Any, db: Any) -> None:
    """Make the tables."""
    types = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for table in ("journal", "outbox"):
        db.execute_sql(f"DROP TABLE {table}")

"""Which writes a worker is verifying: one row for all of a chunk, in place of a change to each of them."""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"id": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "real": "REAL"}
POSTGRESQL = {"id": "BIGSERIAL NOT NULL PRIMARY KEY", "real": "DOUBLE PRECISION"}

#: ``write_ids`` is JSON, from ``first_id`` to ``last_id``.
TABLE = """
CREATE TABLE verifications (
    id {id},
    begun_at {real} NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    write_ids TEXT NOT NULL
)
"""


def up(migrator: Any, db: Any) -> None:
    """Make the table."""
    db.execute_sql(TABLE.format(**(SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL)))


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql("DROP TABLE verifications")

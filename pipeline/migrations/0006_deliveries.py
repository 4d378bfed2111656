"""How often the handling of a queued write has begun without coming to an end."""

from typing import Any

from peewee import SqliteDatabase

#: What this and the next migrations change, in the order in which workers lock them: busy ones go on
#: meanwhile. All migrations are one transaction.
LOCK = "LOCK TABLE batches, writes, dead_letters IN ACCESS EXCLUSIVE MODE"


def up(migrator: Any, db: Any) -> None:
    """Add the column."""
    if not isinstance(db, SqliteDatabase):
        db.execute_sql(LOCK)
    db.execute_sql("ALTER TABLE writes ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0")


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql("ALTER TABLE writes DROP COLUMN deliveries")

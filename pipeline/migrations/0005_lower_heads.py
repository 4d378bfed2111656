"""Since when a chain's head is below what was seen, and when an incident is to be told of once more."""

from typing import Any

from peewee import SqliteDatabase

COLUMNS = (("chains", "lower_since"), ("incidents", "alert_due_at"))


def up(migrator: Any, db: Any) -> None:
    """Add the columns."""
    real = "REAL" if isinstance(db, SqliteDatabase) else "DOUBLE PRECISION"
    for table, column in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {real}")


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for table, column in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column}")

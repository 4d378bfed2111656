"""Heads that are below what was seen, nonces that others have used, and alerts that are due later."""

from typing import Any

from peewee import SqliteDatabase

COLUMNS = (
    ("chains", "lower_since", "{real}"),
    ("incidents", "alert_due_at", "{real}"),
    ("incidents", "alert_tried_at", "{real}"),
    ("transactions", "missing_block", "BIGINT"),
    ("dead_letters", "alert_tried_at", "{real}"),
)


def up(migrator: Any, db: Any) -> None:
    """Add the columns."""
    real = "REAL" if isinstance(db, SqliteDatabase) else "DOUBLE PRECISION"
    for table, column, kind in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind.format(real=real)}")


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for table, column, _ in COLUMNS:
        db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column}")

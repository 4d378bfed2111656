"""How often the handling of a queued write has begun without coming to an end."""

from typing import Any


def up(migrator: Any, db: Any) -> None:
    """Add the column."""
    db.execute_sql("ALTER TABLE writes ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0")


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql("ALTER TABLE writes DROP COLUMN deliveries")

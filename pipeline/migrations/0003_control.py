"""What all processes share besides the ledger: leases of the sweeps, and switches such as pause."""

from typing import Any

from peewee import SqliteDatabase

STATEMENTS = (
    "CREATE TABLE leases (name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, expires_at {real} NOT NULL)",
    "CREATE TABLE control (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, updated_at {real} NOT NULL)",
)


def up(migrator: Any, db: Any) -> None:
    """Make the tables."""
    real = "REAL" if isinstance(db, SqliteDatabase) else "DOUBLE PRECISION"
    for statement in STATEMENTS:
        db.execute_sql(statement.format(real=real))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for table in ("control", "leases"):
        db.execute_sql(f"DROP TABLE {table}")

"""Who is logged in to the dashboard."""

from typing import Any

from peewee import SqliteDatabase

TABLE = """
CREATE TABLE sessions (
    token_hash TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    password_tag TEXT NOT NULL,
    csrf_token TEXT NOT NULL,
    created_at {real} NOT NULL,
    expires_at {real} NOT NULL
)
"""

STATEMENTS = (
    TABLE,
    "CREATE INDEX sessions_expiry ON sessions (expires_at)",
    # How often somebody was refused of late.
    "CREATE INDEX journal_refused ON journal (at) WHERE event = 'log-in refused'",
)


def up(migrator: Any, db: Any) -> None:
    """Make the table."""
    real = "REAL" if isinstance(db, SqliteDatabase) else "DOUBLE PRECISION"
    for statement in STATEMENTS:
        db.execute_sql(statement.format(real=real))


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql("DROP INDEX journal_refused")
    db.execute_sql("DROP TABLE sessions")

"""A row a minute for plots, the time of the newest block, and the index that both and rates read by.

``writes_ended`` serves `pipeline.ledger.history`: how many ended in an interval, and how long it took.
Purged ones count as well, so that the lists' indexes do not do. It holds what the queries need.
"""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"real": "REAL"}
POSTGRESQL = {"real": "DOUBLE PRECISION"}

STATEMENTS = (
    "CREATE INDEX writes_ended ON writes (state, finished_at, queued_at) WHERE finished_at IS NOT NULL",
    "ALTER TABLE chains ADD COLUMN seen_time {real}",
    """
    CREATE TABLE samples (
        minute BIGINT NOT NULL PRIMARY KEY,
        completed BIGINT NOT NULL,
        failed BIGINT NOT NULL,
        latency_p50_seconds {real},
        latency_p95_seconds {real},
        latency_p99_seconds {real},
        oldest_pending_seconds {real},
        waiting BIGINT,
        active BIGINT,
        delayed BIGINT
    )
    """,
)


def up(migrator: Any, db: Any) -> None:
    """Add them."""
    types = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for statement in STATEMENTS:
        db.execute_sql(statement.format(**types))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    db.execute_sql("DROP TABLE samples")
    db.execute_sql("ALTER TABLE chains DROP COLUMN seen_time")
    db.execute_sql("DROP INDEX writes_ended")

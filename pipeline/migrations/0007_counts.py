"""How many writes are in each state, kept by the database itself: nobody counts a million rows.

On PostgreSQL each statement adds what it has changed, so that no two wait for each other;
`pipeline.ledger.counts` sums that up now and then. SQLite has one writer and one row a state.
"""

from typing import Any

from peewee import SqliteDatabase

#: What pollers see of a row; NULL for one that is in no count (`pipeline.status` says the same).
STATUS = """
CASE
    WHEN {row}.state = 'confirmed' THEN CASE WHEN {row}.purged_at IS NULL THEN 'completed' END
    WHEN {row}.state = 'failed' THEN CASE WHEN {row}.purged_at IS NULL THEN 'failed' END
    WHEN {row}.due_at IS NOT NULL THEN 'delayed'
    WHEN {row}.state = 'queued' AND {row}.attempts = 0 THEN 'waiting'
    ELSE 'active'
END
"""

COUNT = "SELECT STATUS, COUNT(*) FROM writes GROUP BY 1"

POSTGRESQL = (
    "CREATE TABLE write_counts (id BIGSERIAL PRIMARY KEY, status TEXT NOT NULL, delta BIGINT NOT NULL)",
    """
    CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO write_counts (status, delta)
            SELECT STATUS_OF_NEW, COUNT(*) FROM new_rows GROUP BY 1 HAVING STATUS_OF_NEW IS NOT NULL;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO write_counts (status, delta)
            SELECT STATUS_OF_OLD, -COUNT(*) FROM old_rows GROUP BY 1 HAVING STATUS_OF_OLD IS NOT NULL;
        ELSE
            INSERT INTO write_counts (status, delta)
            SELECT status, SUM(change) FROM (
                SELECT STATUS_OF_NEW AS status, 1 AS change FROM new_rows
                UNION ALL
                SELECT STATUS_OF_OLD, -1 FROM old_rows
            ) AS changes
            WHERE status IS NOT NULL GROUP BY status HAVING SUM(change) <> 0;
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER count_inserted AFTER INSERT ON writes REFERENCING NEW TABLE AS new_rows"
    " FOR EACH STATEMENT EXECUTE FUNCTION count_writes()",
    "CREATE TRIGGER count_updated AFTER UPDATE ON writes"
    " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
    " FOR EACH STATEMENT EXECUTE FUNCTION count_writes()",
    "CREATE TRIGGER count_deleted AFTER DELETE ON writes REFERENCING OLD TABLE AS old_rows"
    " FOR EACH STATEMENT EXECUTE FUNCTION count_writes()",
)

SQLITE = (
    "CREATE TABLE write_counts"
    " (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL UNIQUE, delta BIGINT NOT NULL)",
    "INSERT INTO write_counts (status, delta)"
    " VALUES ('waiting', 0), ('active', 0), ('delayed', 0), ('completed', 0), ('failed', 0)",
    """
    CREATE TRIGGER count_inserted AFTER INSERT ON writes BEGIN
        UPDATE write_counts SET delta = delta + 1 WHERE status = STATUS_OF_NEW;
    END
    """,
    """
    CREATE TRIGGER count_updated AFTER UPDATE OF state, attempts, due_at, purged_at ON writes
    WHEN STATUS_OF_OLD IS NOT STATUS_OF_NEW BEGIN
        UPDATE write_counts SET delta = delta - 1 WHERE status = STATUS_OF_OLD;
        UPDATE write_counts SET delta = delta + 1 WHERE status = STATUS_OF_NEW;
    END
    """,
    """
    CREATE TRIGGER count_deleted AFTER DELETE ON writes BEGIN
        UPDATE write_counts SET delta = delta - 1 WHERE status = STATUS_OF_OLD;
    END
    """,
)


def up(migrator: Any, db: Any) -> None:
    """Make table and triggers, and count what is there."""
    sqlite = isinstance(db, SqliteDatabase)
    old, new = ("OLD", "NEW") if sqlite else ("old_rows", "new_rows")
    for statement in SQLITE if sqlite else POSTGRESQL:
        for place, row in (("STATUS_OF_OLD", old), ("STATUS_OF_NEW", new)):
            statement = statement.replace(place, STATUS.format(row=row))
        db.execute_sql(statement)
    found = db.execute_sql(COUNT.replace("STATUS", STATUS.format(row="writes"))).fetchall()
    add = (
        "UPDATE write_counts SET delta = delta + ? WHERE status = ?"
        if sqlite
        else "INSERT INTO write_counts (delta, status) VALUES (%s, %s)"
    )
    for status, count in found:
        if status is not None:
            db.execute_sql(add, (count, status))


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    for name in ("count_inserted", "count_updated", "count_deleted"):
        on = "" if isinstance(db, SqliteDatabase) else " ON writes"
        db.execute_sql(f"DROP TRIGGER {name}{on}")
    if not isinstance(db, SqliteDatabase):
        db.execute_sql("DROP FUNCTION count_writes()")
    db.execute_sql("DROP TABLE write_counts")

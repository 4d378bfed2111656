"""What a million rows need: an index for each list and sweep, and trees that are stored.

Each index is partial: it holds what a list shows or a sweep looks for, and no finished row.
"""

from typing import Any

from peewee import SqliteDatabase

SQLITE = {"bytes": "BLOB"}
POSTGRESQL = {"bytes": "BYTEA"}

PENDING = "state IN ('queued', 'verified', 'written')"

#: By name; those of lists have the conditions of `pipeline.status`.
INDEXES = {
    "writes_waiting": "writes (id) WHERE state = 'queued' AND attempts = 0 AND due_at IS NULL",
    "writes_active": f"writes (id) WHERE {PENDING} AND due_at IS NULL"
    " AND (state <> 'queued' OR attempts > 0)",
    "writes_delayed": f"writes (id) WHERE {PENDING} AND due_at IS NOT NULL",
    # Whose message is gone: the one that left first comes first.
    "writes_sent": "writes (priority, sent_at, id) WHERE state = 'queued'",
    "batches_ready": "batches (lane DESC, due_at, id) WHERE state IN ('open', 'full')",
    "batches_sent": "batches (sent_at, id) WHERE state IN ('open', 'full')",
    "batches_final": "batches (chain_id, block_number, id) WHERE final_at IS NOT NULL",
    "dead_letters_of_write": "dead_letters (write_id)",
    "dead_letters_of_cause": "dead_letters (cause_id)",
    "dead_letters_of_batch": "dead_letters (batch_id) WHERE batch_id IS NOT NULL",
    "dead_letters_replayable": "dead_letters (id) WHERE resolved_at IS NULL AND replayable",
}

#: What the lists' own indexes replace.
WRITES_PENDING = f"CREATE INDEX writes_pending ON writes (state, id) WHERE {PENDING}"

#: The nodes of a Merkle tree, one after the other, 32 bytes each: the root first.
TREES = """
CREATE TABLE trees (
    batch_id BIGINT NOT NULL PRIMARY KEY REFERENCES batches (id),
    nodes {bytes} NOT NULL
)
"""

#: Not compressed, so that a slice is read without the rest; hashes do not get smaller anyway.
SLICES = "ALTER TABLE trees ALTER COLUMN nodes SET STORAGE EXTERNAL"

#: What a sweep looks for: no letter that was replayed as often as may be is looked at again.
REPLAYABLE = (
    "ALTER TABLE dead_letters ADD COLUMN replayable BOOLEAN NOT NULL DEFAULT FALSE",
    "UPDATE dead_letters SET replayable = NOT permanent WHERE resolved_at IS NULL",
)


def up(migrator: Any, db: Any) -> None:
    """Add the table and the indexes."""
    sqlite = isinstance(db, SqliteDatabase)
    db.execute_sql(TREES.format(**(SQLITE if sqlite else POSTGRESQL)))
    if not sqlite:
        db.execute_sql(SLICES)
    for statement in REPLAYABLE:
        db.execute_sql(statement)
    for name, columns in INDEXES.items():
        db.execute_sql(f"CREATE INDEX {name} ON {columns}")
    db.execute_sql("DROP INDEX writes_pending")


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    db.execute_sql(WRITES_PENDING)
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")
    db.execute_sql("DROP TABLE trees")
    db.execute_sql("ALTER TABLE dead_letters DROP COLUMN replayable")

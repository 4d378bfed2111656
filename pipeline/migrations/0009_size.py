"""What a million rows need: an index for each list and sweep.

Each index is partial: it holds what a list shows or a sweep looks for, and no finished row.
"""

from typing import Any

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
    "dead_letters_replayable": "dead_letters (id) WHERE resolved_at IS NULL AND NOT permanent",
}

#: What the lists' own indexes replace.
WRITES_PENDING = f"CREATE INDEX writes_pending ON writes (state, id) WHERE {PENDING}"

def up(migrator: Any, db: Any) -> None:
    """Add the indexes."""
    for name, columns in INDEXES.items():
        db.execute_sql(f"CREATE INDEX {name} ON {columns}")
    db.execute_sql("DROP INDEX writes_pending")


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    db.execute_sql(WRITES_PENDING)
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")

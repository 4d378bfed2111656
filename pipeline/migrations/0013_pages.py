"""What the dashboard's pages look for, each by an index; those on writes cost intake as little as can be.

Two indexes are replaced and not added to: what they served they still serve.
"""

from typing import Any

from peewee import SqliteDatabase

#: By name; each is the first way to the rows of one page, in its order.
INDEXES = {
    # `data.search`: jobs of a data hash. On PostgreSQL four bytes of a hash are kept, not 64.
    "writes_of_data_hash": "writes {hash_of_data_hash}",
    # `data.letters.page`, of all kinds.
    "dead_letters_open": "dead_letters (id) WHERE resolved_at IS NULL",
    # `data.letters.page` of one kind, and `data.letters.counts`.
    "dead_letters_of_kind": "dead_letters (stage, error, id) WHERE resolved_at IS NULL",
    # `data.audit.page`.
    "journal_of_people": "journal (id) WHERE actor <> 'pipeline'",
    # `data.why.pause`: who has paused.
    "journal_of_pipeline": "journal (id) WHERE write_id IS NULL AND batch_id IS NULL",
}

#: Replaced: the members of a batch in order, for `data.batches.detail`; and on PostgreSQL credential ids
#: by what they begin with, for `data.search`, whatever the database's collation.
REPLACED = {
    "writes_of_batch": ("writes (batch_id, id)", "writes (batch_id)", "batch_id IS NOT NULL"),
    "writes_of_credential": ("writes (credential_id {text}, id)", "writes (credential_id, id)", None),
}

SQLITE = {"hash_of_data_hash": "(data_hash)", "text": ""}
POSTGRESQL = {"hash_of_data_hash": "USING hash (data_hash)", "text": "text_pattern_ops"}


def up(migrator: Any, db: Any) -> None:
    """Add and replace indexes."""
    words = SQLITE if isinstance(db, SqliteDatabase) else POSTGRESQL
    for name, columns in INDEXES.items():
        db.execute_sql(f"CREATE INDEX {name} ON {columns.format(**words)}")
    for name, (new, _, condition) in REPLACED.items():
        _replace(db, name, new.format(**words), condition)


def down(migrator: Any, db: Any) -> None:
    """Drop them, and make the earlier ones again."""
    for name, (_, old, condition) in REPLACED.items():
        _replace(db, name, old, condition)
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")


def _replace(db: Any, name: str, columns: str, condition: str | None) -> None:
    db.execute_sql(f"DROP INDEX {name}")
    db.execute_sql(f"CREATE INDEX {name} ON {columns}" + (f" WHERE {condition}" if condition else ""))

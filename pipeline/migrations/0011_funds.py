"""What a signer has, and what its writes have cost lately: how long the funds last."""

from typing import Any

from peewee import SqliteDatabase

COLUMNS = (("balance_wei", "TEXT"), ("balance_at", "{real}"))

#: With all that is summed up, so that a day of writes is read without its rows.
SPENT = """
CREATE INDEX batches_spent ON batches (chain_id, issuer, block_time, gas_used, gas_price_wei)
WHERE block_time IS NOT NULL
"""


def up(migrator: Any, db: Any) -> None:
    """Add the columns and the index."""
    real = "REAL" if isinstance(db, SqliteDatabase) else "DOUBLE PRECISION"
    for column, kind in COLUMNS:
        db.execute_sql(f"ALTER TABLE signers ADD COLUMN {column} {kind.format(real=real)}")
    db.execute_sql(SPENT)


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    db.execute_sql("DROP INDEX batches_spent")
    for column, _ in COLUMNS:
        db.execute_sql(f"ALTER TABLE signers DROP COLUMN {column}")

"""How many writes pollers see in each state; the database's triggers keep count."""

from __future__ import annotations

from peewee import fn

from pipeline.database import database, is_sqlite, reading, transaction
from pipeline.ledger.sql import rows
from pipeline.models import WriteCount

STATUSES = ("waiting", "active", "delayed", "completed", "failed")

#: With more rows than this their sum is taken down again.
MAX_ROWS = 500

#: With more than this, by who reads: no sweep has run for long.
MAX_ROWS_READ = 5000

#: Two at once do no harm: the second finds no rows, or those that came after.
COMPACT = """
WITH gone AS (DELETE FROM write_counts RETURNING status, delta)
INSERT INTO write_counts (status, delta) SELECT status, SUM(delta) FROM gone GROUP BY status
"""


def read() -> dict[str, int]:
    """The counts, all of one moment. Where no sweep compacts them, whoever reads does."""
    found = _sums()
    if sum(number for _, number in found.values()) > MAX_ROWS_READ:
        compact()
    return {status: int(found[status][0]) if status in found else 0 for status in STATUSES}


@reading
def _sums() -> dict[str, tuple[int, int]]:
    """By status: how many writes, and how many rows that are the sum of."""
    query = WriteCount.select(WriteCount.status, fn.SUM(WriteCount.delta), fn.COUNT(WriteCount.id))
    return {row[0]: (row[1], row[2]) for row in rows(query.group_by(WriteCount.status))}


def compact() -> None:
    """Sum up what single statements have added; on SQLite there is nothing to do."""
    if not is_sqlite() and WriteCount.select().count() > MAX_ROWS:
        _compact()


@transaction
def _compact() -> None:
    database.execute_sql(COMPACT)

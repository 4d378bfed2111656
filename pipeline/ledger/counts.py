"""How many writes pollers see in each state; the database's triggers keep count."""

from __future__ import annotations

from peewee import fn

from pipeline.database import database, is_sqlite, reading, transaction
from pipeline.ledger.sql import rows
from pipeline.models import WriteCount

STATUSES = ("waiting", "active", "delayed", "completed", "failed")

#: With more rows than this their sum is taken down again.
MAX_ROWS = 500

#: Two at once do no harm: the second finds no rows, or those that came after.
COMPACT = """
WITH gone AS (DELETE FROM write_counts RETURNING status, delta)
INSERT INTO write_counts (status, delta) SELECT status, SUM(delta) FROM gone GROUP BY status
"""


@reading
def read() -> dict[str, int]:
    """The counts, all of one moment."""
    query = WriteCount.select(WriteCount.status, fn.SUM(WriteCount.delta)).group_by(WriteCount.status)
    found = dict(rows(query))
    return {status: int(found.get(status) or 0) for status in STATUSES}


def compact() -> None:
    """Sum up what single statements have added; on SQLite there is nothing to do."""
    if not is_sqlite() and WriteCount.select().count() > MAX_ROWS:
        _compact()


@transaction
def _compact() -> None:
    database.execute_sql(COMPACT)

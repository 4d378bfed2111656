"""What an issuer does before a run: credentials in bulk, with their queued writes, and the messages.

A database is filled by one of `stored`, `queued` and `copied`, each told how many.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import messages
from pipeline.database import database, is_sqlite, transaction
from pipeline.hashing import canonical
from pipeline.intake import CredentialRecord
from pipeline.ledger import credentials, queueing
from pipeline.ledger.sql import chunks, rows
from pipeline.models import State, Write
from tests.benchmarks.documents import document

#: Messages leave later than the rows say, when a run begins. A sweep must not take them for lost.
NOT_LOST_FOR_SECONDS = 86_400.0

#: Credentials that are stored together.
PART = 1000


#: `tests.issuer.document` of the number ``n``, and its hash, in SQL. (A million of one hash would be
#: one chain in the index of data hashes.)
DOCUMENT = "'" + canonical(document(0)).decode().replace("Holder 0", "Holder ' || n || '") + "'"
HASH = f"encode(sha256(convert_to({DOCUMENT}, 'UTF8')), 'hex')"

#: What is each row's own; all else is the first one's.
OWN = {
    "credentials": {"id": "'c' || n", "document": f"({DOCUMENT})::json", "data_hash": HASH},
    "writes": {
        "job_id": "gen_random_uuid()::text",
        "credential_id": "'c' || n",
        "data_hash": HASH,
        "salt": "sha256(convert_to('salt' || n, 'UTF8'))",
        "leaf": "sha256(convert_to('leaf' || n, 'UTF8'))",
    },
}

COLUMNS = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s
    AND (table_name = 'credentials' OR column_name <> 'id') ORDER BY ordinal_position
"""

#: All but those of constraints.
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = %s
    AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


def stored(count: int) -> None:
    """That many credentials."""
    _fill(count, with_writes=False)


def queued(count: int) -> None:
    """That many credentials with queued writes; no message leaves."""
    _fill(count, with_writes=True)


def copied(count: int) -> None:
    """The same on PostgreSQL, by a statement a table: a million takes a minute. Its leaves are made up."""
    _fill(1, with_writes=True)
    for table, own in OWN.items():
        columns = [name for (name,) in database.execute_sql(COLUMNS, (table,)).fetchall()]
        values = ", ".join(own.get(name, name) for name in columns)
        with _without_indexes(table):
            database.execute_sql(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values}"
                f" FROM {table}, generate_series(1, {count - 1}) AS n"
            )
    database.execute_sql("VACUUM (ANALYZE) credentials, writes")


@contextmanager
def _without_indexes(table: str) -> Iterator[None]:
    """To make them anew at the end takes a tenth of the time."""
    indexes = database.execute_sql(INDEXES, (table,)).fetchall()
    for name, _ in indexes:
        database.execute_sql(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        database.execute_sql(definition)


def _fill(count: int, *, with_writes: bool) -> None:
    for part in chunks(range(count), PART):
        records = [CredentialRecord.of(f"c{number}", document(number)) for number in part]
        _store(records, with_writes)
    tidy = "VACUUM (FULL, ANALYZE) credentials, writes" if not is_sqlite() else "VACUUM"
    database.execute_sql(tidy)


@transaction
def _store(records: list[CredentialRecord], with_writes: bool) -> None:
    credentials.store(records)
    if not with_writes:
        return
    queueing.queue([record.request for record in records])
    Write.update(sent_at=time.time() + NOT_LOST_FOR_SECONDS).where(Write.sent_at < time.time()).execute()


def waiting() -> list[int]:
    """The ids of what waits, oldest first."""
    return [
        row[0] for row in rows(Write.select(Write.id).where(Write.state == State.QUEUED).order_by(Write.id))
    ]


def send(write_ids: list[int], message_size: int) -> None:
    """Have them verified: the messages that bulk intake sends after its commit."""
    for part in chunks(write_ids, message_size):
        messages.send("hash_verify_many", list(part))

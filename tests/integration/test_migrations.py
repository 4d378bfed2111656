"""Promise: the schema is made and brought up to date by whoever comes first, and no row is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import peewee as pw
import pytest

from pipeline import models
from pipeline.database import MIGRATIONS, PostgresqlDatabase, migrate, open_database
from pipeline.models import Table
from tests.racing import in_processes

VERSIONS = sorted(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))
TABLES = {model._meta.table_name: model for model in Table.__subclasses__()}

#: A row for each table, those first that others refer to. Not the same value twice in a row.
ROWS: dict[str, dict[str, Any]] = {
    "credentials": {
        "id": "c1",
        "document": '{"grade":1e21, "zero":-0.0}',
        "data_hash": "ab" * 32,
        "ipfs_cid": "a CID",
        "metadata": '{"own": "é"}',
    },
    "batches": {
        "id": 7,
        "lane": "urgent",
        "state": "submitted",
        "size": 1,
        "created_at": 1.25,
        "due_at": 2.5,
        "sent_at": 3.5,
        "retrying": False,
        "mock": True,
        "merkle_root": "0x01",
        "confirmations": 4,
    },
    "writes": {
        "id": 8,
        "job_id": "j1",
        "credential_id": "c1",
        "data_hash": "ab" * 32,
        "salt": b"\x00\x01",
        "leaf": b"\xff",
        "priority": "urgent",
        "own_message": True,
        "state": "written",
        "attempts": 2,
        "batch_id": 7,
        "queued_at": 1.5,
        "updated_at": 2.75,
        "sent_at": 3.25,
    },
    "trees": {"batch_id": 7, "nodes": b"\x00\xff\x01"},
    "verifications": {"id": 20, "begun_at": 1.5, "first_id": 8, "last_id": 9, "write_ids": "[8, 9]"},
    "write_counts": {"id": 14, "status": "of an older program", "delta": 3},
    "signers": {"id": 9, "chain_id": 2**40, "address": "0x02", "next_nonce": 5},
    "transactions": {
        "id": 10,
        "batch_id": 7,
        "chain_id": 2**40,
        "signer": "0x02",
        "nonce": 4,
        "hash": "0x03",
        "raw_transaction": "0x04",
        "state": "sent",
        "gas_limit": 21_000,
        "max_fee_wei": str(2**70),
        "tip_wei": "1",
        "created_at": 1.125,
    },
    "dead_letters": {
        "id": 11,
        "write_id": 8,
        "cause_id": "cause",
        "credential_id": "c1",
        "job_id": "j1",
        "stage": "settle",
        "error": "TransactionReverted",
        "message": "one line",
        "attempts": 2,
        "permanent": True,
        "created_at": 1.0,
    },
    "chains": {"chain_id": 2**40, "genesis_hash": "0x05", "seen_number": 2**33, "seen_hash": "0x06"},
    "incidents": {
        "id": 12,
        "event_id": "e1",
        "kind": "FeeCeiling",
        "subject": "1",
        "level": "fatal",
        "message": "dear",
        "opened_at": 1.5,
    },
    "journal": {"id": 13, "at": 2.5, "event": "replayed", "actor": "somebody", "write_id": 8, "detail": "d"},
    "outbox": {"id": 14, "at": 2.5, "event": "failed", "jobs": '[["j", "c"]]', "detail": "{}"},
    "sessions": {
        "token_hash": "07" * 32,
        "name": "ann",
        "password_tag": "tag",
        "csrf_token": "t",
        "created_at": 1.5,
        "expires_at": 2.5,
    },
    "leases": {"name": "settle", "holder": "h", "expires_at": 9.5},
    "samples": {"minute": 1_700_000_040, "completed": 3, "failed": 1, "latency_p50_seconds": 1.5},
    "control": {"name": "paused", "value": "true", "updated_at": 8.5},
}


@pytest.fixture
def empty(database_url: str) -> Iterator[pw.Database]:
    """A database without a schema."""
    name = database_url.removeprefix("sqlite:///")
    db = (
        pw.SqliteDatabase(name)
        if name != database_url
        else PostgresqlDatabase(database_url, prefer_psycopg3=True)
    )
    yield db
    db.close()


def insert_rows(db: pw.Database) -> dict[str, dict[str, Any]]:
    """Put a row into each table that there is, of the columns that there are; returns them."""
    mark = "?" if isinstance(db, pw.SqliteDatabase) else "%s"
    inserted: dict[str, dict[str, Any]] = {}
    for table, row in ROWS.items():
        if not db.table_exists(table):
            continue
        columns = {column.name for column in db.get_columns(table)}
        inserted[table] = {name: value for name, value in row.items() if name in columns}
        names, marks = ", ".join(inserted[table]), ", ".join([mark] * len(inserted[table]))
        db.execute_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(inserted[table].values()))
    return inserted


def test_there_is_a_row_for_each_table() -> None:
    """A new table needs one here, or nobody sees that a later step keeps its rows."""
    assert set(TABLES) == set(ROWS)


def test_twice_is_as_good_as_once(empty: pw.Database) -> None:
    """The second run finds nothing to do."""
    assert migrate(empty) == VERSIONS
    assert migrate(empty) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_of_an_older_version_survive(empty: pw.Database, database_url: str, version: str) -> None:
    """Opening a database of each older version brings it up to date; every value is as it was."""
    migrate(empty, version)
    inserted = insert_rows(empty)
    empty.close()
    now = open_database(database_url)
    assert set(TABLES) <= set(now.get_tables())
    for table, row in inserted.items():
        stored = now.execute_sql(f"SELECT {', '.join(row)} FROM {table}").fetchall()
        # Triggers have made other rows of write_counts.
        assert row in [dict(zip(row, map(plain, values), strict=True)) for values in stored]
    now.close()


def plain(value: Any) -> Any:
    """What a driver gives, as what was inserted."""
    return bytes(value) if isinstance(value, memoryview) else value


def test_an_issuers_own_table_is_kept(empty: pw.Database, database_url: str) -> None:
    """A `credentials` table that the issuer has already is taken as it is, with its rows."""
    empty.execute_sql(
        "CREATE TABLE credentials (id TEXT PRIMARY KEY, document TEXT, data_hash TEXT, ipfs_cid TEXT, "
        "metadata TEXT, created_at TIMESTAMP, updated_at TIMESTAMP, faculty TEXT)"
    )
    empty.execute_sql("INSERT INTO credentials (id, faculty) VALUES ('old', 'Law')")
    empty.close()
    now = open_database(database_url)
    assert now.execute_sql("SELECT id, faculty FROM credentials").fetchall() == [("old", "Law")]
    now.close()


@pytest.mark.parametrize("model", TABLES.values(), ids=list(TABLES))
def test_models_are_the_tables(database_url: str, model: type[Table]) -> None:
    """Each model has the columns of its table, with the same primary key and the same NULLs."""
    db = open_database(database_url)
    meta: Any = model._meta  # type: ignore[attr-defined]
    columns = {column.name: (column.null, column.primary_key) for column in db.get_columns(meta.table_name)}
    db.close()
    assert columns == {name: (field.null, field.primary_key) for name, field in meta.columns.items()}


IMPORTS = "from pipeline.database import database"
OPEN = "print(database.execute_sql('SELECT count(*) FROM schema_migration').fetchone()[0])"


def test_processes_open_an_empty_database_at_once(
    database_url: str, worker_environment: Callable[..., dict[str, str]]
) -> None:
    """One makes the schema, the others wait for it; none fails."""
    outputs = in_processes(IMPORTS, OPEN, [()] * 6, worker_environment(database_url=database_url))
    assert outputs == [f"{len(VERSIONS)}\n"] * 6


def test_models_have_all_tables(database_url: str) -> None:
    """No table without a model, beside the history of the migrations."""
    db = open_database(database_url)
    tables = set(db.get_tables()) - {"sqlite_sequence"}
    db.close()
    assert tables == {*TABLES, "schema_migration"}
    assert all(hasattr(models, model.__name__) for model in TABLES.values())

"""Promise: on PostgreSQL a credential's changes stay on its page; an issuer's own table is left alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from pipeline.database import database
from pipeline.hashing import document_hash
from pipeline.intake import CredentialRecord
from pipeline.ledger import credentials
from tests.benchmarks.documents import document
from tests.databases import on_postgresql

COUNT = 200

PAGES = "SELECT id, (ctid::text::point)[0] FROM credentials ORDER BY id"

OPTIONS = "SELECT reloptions FROM pg_class WHERE oid = 'credentials'::regclass"


def pages() -> list[tuple[str, float]]:
    """Where each credential is."""
    found: list[tuple[str, float]] = database.execute_sql(PAGES).fetchall()
    return found


@on_postgresql
def test_pending_stays_on_its_page(client: Any) -> None:
    """So that the index, which has no entry for the new row, does not grow."""
    numbers = range(COUNT)
    credentials.store([CredentialRecord.of(f"c{number}", document(number)) for number in numbers])
    before = pages()
    client.write_many_to_blockchain_queued([(f"c{n}", document_hash(document(n))) for n in numbers])
    assert pages() == before


@on_postgresql
@pytest.mark.parametrize(
    ("issuer_s", "after"),
    [
        ("ALTER TABLE credentials SET (autovacuum_enabled = on)", ["autovacuum_enabled=on", "fillfactor=50"]),
        ("ALTER TABLE credentials SET (fillfactor = 90)", ["fillfactor=90"]),
        ("DROP TABLE credentials; CREATE TABLE credentials (id TEXT) PARTITION BY HASH (id)", None),
        ("CREATE ROLE app; SET ROLE app", None),
    ],
)
def test_what_is_the_issuer_s_stays(ledger: str, issuer_s: str, after: list[str] | None) -> None:
    """His own fill factor; a partitioned table, which can have none; one that we may not alter. Both ways."""
    room = import_module("pipeline.migrations.0016_room")
    room.down(None, database)
    assert database.execute_sql(OPTIONS).fetchone() == (None,)
    try:
        database.connection().execute(issuer_s)
        room.up(None, database)
        assert database.execute_sql(OPTIONS).fetchone() == (after,)
        room.down(None, database)
        kept = [option for option in after or () if option != "fillfactor=50"]
        assert database.execute_sql(OPTIONS).fetchone() == (kept or None,)
    finally:
        database.connection().execute("RESET ROLE; DROP ROLE IF EXISTS app")

"""Promise: a statement that goes past the driver's cursors says and raises what one of theirs would."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import peewee
import psycopg
import pytest

from pipeline.database import database
from pipeline.prepared import Prepared
from tests.databases import on_postgresql, terminate, use_url
from tests.intake import CID, HASH, insert_row, writes

#: As many bytes as the texts have as the server has them, and the rest of the values as far as they are so.
LOOK = Prepared(
    "SELECT octet_length(%s)::bigint + CASE WHEN %s = '\\x00ff'::bytea AND %s AND NOT %s AND %s = 0.1"
    " AND %s = 3 THEN 0 ELSE 1000 END",
    ["text", "bytea", "boolean", "boolean", "double precision", "double precision"],
)

#: So often psycopg runs a statement until it prepares it.
PREPARED_AFTER = 6

VALUES = ("Universität 🎓", b"\x00\xff", True, False, 0.1, 3)

DIVIDE = Prepared("SELECT (6 / nullif(%s, 1)::integer)::bigint", ["double precision"])


def test_values_arrive(ledger: str) -> None:
    """Texts in UTF-8, bytes with a NUL, numbers to their last bit. On SQLite it is a text as any."""
    if ledger.startswith("sqlite"):
        assert database.execute_sql(Prepared("SELECT 1", [])).fetchone() == (1,)
        return
    for _ in range(2):  # prepared by the first
        assert database.execute_sql(LOOK, VALUES).fetchone() == (len("Universität 🎓".encode()),)


@on_postgresql
def test_null_is_none(ledger: str) -> None:
    """As a value and as the answer."""
    assert database.execute_sql(DIVIDE, (2.0,)).fetchone() == (3,)
    assert database.execute_sql(DIVIDE, (None,)).fetchone() == (None,)
    assert database.execute_sql(DIVIDE, (1,)).fetchone() == (None,)


@on_postgresql
def test_what_fails_raises_peewee_s_error(ledger: str) -> None:
    """With what the server says; the session goes on."""
    with pytest.raises(peewee.DataError, match="division by zero"):
        database.execute_sql(DIVIDE, (0.0,))
    assert database.execute_sql(DIVIDE, (3.0,)).fetchone() == (2,)
    with pytest.raises(peewee.ProgrammingError, match="nowhere"):
        database.execute_sql(Prepared("SELECT id FROM nowhere", []), ())


@on_postgresql
def test_a_session_that_was_cut_is_told_anew(client: Any, admin: psycopg.Connection[Any]) -> None:
    """Whether it was idle, or is cut while it waits."""
    for name in ("c0", "c1"):
        insert_row(name)
    client.write_to_blockchain_queued("c0", HASH)
    terminate(admin, database.connection().info.backend_pid)
    client.write_to_blockchain_queued("c1", HASH, CID)
    assert [write.credential_id for write in writes()] == ["c0", "c1"]
    own_end = Prepared("SELECT 1 FROM pg_terminate_backend(pg_backend_pid())", [])
    with pytest.raises(peewee.OperationalError, match="terminat"):
        database.execute_sql(own_end, ())
    assert database.execute_sql(DIVIDE, (2.0,)).fetchone() == (3,)


@on_postgresql
def test_texts_go_in_the_encoding_of_the_session(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL may name another one: the server has the same text."""
    use_url(f"{ledger}{'&' if '?' in ledger else '?'}client_encoding=LATIN1", monkeypatch)
    assert database.execute_sql(LOOK, ("ä", *VALUES[1:])).fetchone() == (len("ä".encode()),)


@on_postgresql
def test_what_psycopg_takes_away_is_prepared_anew(ledger: str) -> None:
    """After each rollback, be it of a savepoint; and whoever else may have cleared the session."""

    def fail(block: Any) -> None:
        with suppress(ZeroDivisionError), block:
            for _ in range(PREPARED_AFTER):  # psycopg has prepared one itself, and so clears the session
                database.execute_sql("SELECT 1")
            raise ZeroDivisionError

    def clear(outer: Any) -> None:
        with outer:
            fail(database.atomic())

    for ways in (
        lambda: fail(database.atomic()),
        lambda: clear(database.atomic()),
        lambda: database.connection().pgconn.exec_(b"DEALLOCATE ALL"),
    ):
        assert database.execute_sql(DIVIDE, (2.0,)).fetchone() == (3,)
        ways()
        assert database.execute_sql(DIVIDE, (2.0,)).fetchone() == (3,)
    with database.atomic():  # which to try in would break
        database.connection().execute("DEALLOCATE ALL")
        assert database.execute_sql(DIVIDE, (2.0,)).fetchone() == (3,)

"""Promise: only of a transaction whose loss costs a repeat is the commit not awaited."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pipeline.database import database, harmless, transaction

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

#: A statement that is sent more often is prepared.
OFTEN = 7


def awaited() -> str:
    """Whether the commit of this transaction is."""
    return str(database.execute_sql("SELECT current_setting('synchronous_commit')").fetchone()[0])


def test_one_after_the_other(ledger: str) -> None:
    """Of the next transaction of the same connection it is awaited again."""
    for _ in range(OFTEN):
        assert harmless(awaited)() == "off"
        assert transaction(awaited)() == "on"


def test_inside_another_one(ledger: str) -> None:
    """That one decides."""
    assert transaction(lambda: harmless(awaited)())() == "on"


def test_the_connection_was_cut(ledger: str, admin: psycopg.Connection[Any]) -> None:
    """It begins anew, on another one."""
    pid = database.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert harmless(awaited)() == "off"

"""Promise: a read whose connection was cut is done again, unless it is part of a transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.database import database, reading
from pipeline.embedded.postgres import PostgresServer
from pipeline.errors import DatabaseUnavailable
from pipeline.models import Credential
from tests.databases import on_postgresql, terminate, use_url
from tests.waiting import until


@reading
def ids() -> list[str]:
    """A read without a transaction."""
    return [row[0] for row in Credential.select(Credential.id).tuples()]


@on_postgresql
def test_a_read_on_a_cut_connection_is_done_again(ledger: str, admin: psycopg.Connection[Any]) -> None:
    """The caller sees no error, each time that its connection is cut."""
    Credential.insert(id="c0").execute()
    for _ in range(3):
        terminate(admin, database.connection().info.backend_pid)
        assert ids() == ["c0"]


@on_postgresql
def test_a_read_in_a_transaction_runs_once(ledger: str, admin: psycopg.Connection[Any]) -> None:
    """What the transaction had before is gone: only its owner can begin anew."""
    calls: list[int] = []

    @reading
    def read() -> list[str]:
        calls.append(1)
        return ids()

    def block() -> None:
        with database.atomic():
            terminate(admin, database.connection().info.backend_pid)
            read()

    with pytest.raises(Exception, match=r"terminat|clos|lost"):
        block()
    assert calls == [1]


@pytest.fixture
def own_postgres(
    new_directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own, which the project uses."""
    with PostgresServer(new_directory("postgres"), durable=False) as server:
        use_url(server.url, monkeypatch)
        yield server
        database.close_all()


def test_a_thread_that_only_reads_survives_a_restart(own_postgres: PostgresServer) -> None:
    """While the server is away it says `DatabaseUnavailable`, and nothing else; then it reads again."""
    Credential.insert(id="c0").execute()
    own_postgres.stop()
    with pytest.raises(DatabaseUnavailable):
        ids()
    own_postgres.start()
    assert ids() == ["c0"]
    timer = threading.Timer(0.2, own_postgres.start)
    own_postgres.stop()
    timer.start()
    found: list[list[str]] = []

    def reads() -> bool:
        try:
            found.append(ids())
        except DatabaseUnavailable:
            return False
        return True

    until(reads, seconds=30, what="reads again")
    timer.join()
    assert found == [["c0"]]

"""Promise: neither another process that stops nor a server that cuts connections keeps the rest from going
on: a transaction begins anew, and is whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.database import close_connection, database, migrate, transaction
from pipeline.models import Credential
from tests.databases import alive, on_postgresql, terminate, use_url
from tests.waiting import until

#: The longest that a stopped process may keep others from its rows.
LIMIT_SECONDS = 20.0

#: Says when it holds the row's lock, and goes on after a line; the second try does not wait.
HOLDER = """
import sys
from pipeline.database import transaction
from pipeline.models import Credential
tries = []

@transaction
def hold():
    tries.append(1)
    Credential.update(data_hash="holder").where(Credential.id == "c0").execute()
    if len(tries) == 1:
        print("locked", flush=True)
        sys.stdin.readline()
    Credential.update(ipfs_cid="holder").where(Credential.id == "c0").execute()

hold()
print(len(tries), flush=True)
"""


@pytest.fixture
def holder(ledger: str, worker_environment: Callable[..., dict[str, str]]) -> Iterator[subprocess.Popen[str]]:
    """Another process, in a transaction that has locked the credential ``c0``."""
    Credential.insert(id="c0").execute()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env=worker_environment(database_url=ledger),
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@transaction
def touch(value: str) -> None:
    """Write to the credential ``c0``."""
    Credential.update(data_hash=value).where(Credential.id == "c0").execute()


@on_postgresql
@pytest.mark.timeout(60)
def test_a_stopped_process_holds_nobody_up(holder: subprocess.Popen[str]) -> None:
    """Its locks are taken away in time; once it wakes it begins anew, and nothing of it is lost."""
    holder.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    touch("other")
    assert time.monotonic() - begin < LIMIT_SECONDS
    holder.send_signal(signal.SIGCONT)
    output, _ = holder.communicate("\n", timeout=30)
    assert (output, holder.returncode) == ("2\n", 0)
    assert Credential.select(Credential.data_hash, Credential.ipfs_cid).tuples()[0] == ("holder", "holder")


SETTINGS = ("idle_in_transaction_session_timeout", "lock_timeout")


@on_postgresql
def test_limits_of_a_connection(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has them, outside of any transaction, unless DATABASE_URL has its own."""
    assert [shown(name) for name in SETTINGS] == ["15s", "10s"]
    use_url(f"{ledger}?options=-c%20lock_timeout%3D3s&keepalives_idle=77", monkeypatch)
    assert [shown(name) for name in SETTINGS] == ["15s", "3s"]
    parameters = database.connection().info.get_parameters()
    assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("77", "15000")


def shown(name: str) -> str:
    """A setting of this thread's connection."""
    return str(database.execute_sql(f"SHOW {name}").fetchone()[0])


def wait_for_idle_timeout(admin: psycopg.Connection[Any], pid: int) -> None:
    until(lambda: not alive(admin, pid), seconds=10, what="the idle session is ended")


def close_here(admin: psycopg.Connection[Any], pid: int) -> None:
    database.connection().close()


CUTS = [wait_for_idle_timeout, terminate, close_here]


@on_postgresql
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("statement", [True, False], ids=["statement", "commit"])
def test_a_transaction_whose_connection_is_cut_begins_anew(
    ledger: str,
    monkeypatch: pytest.MonkeyPatch,
    admin: psycopg.Connection[Any],
    cut: Callable[[psycopg.Connection[Any], int], None],
    statement: bool,
) -> None:
    """Whether the next statement tells or the commit: the caller sees no error, what is stored is whole,
    and what was to be sent after the first commit is not sent.
    """
    use_url(f"{ledger}?options=-c%20idle_in_transaction_session_timeout%3D200", monkeypatch)
    Credential.insert(id="c0").execute()
    tries: list[int] = []
    sent: list[int] = []

    @transaction
    def work() -> int:
        tries.append(pid := database.connection().info.backend_pid)
        Credential.update(data_hash=str(len(tries))).where(Credential.id == "c0").execute()
        database.after_commit(lambda: sent.append(pid))
        if len(tries) == 1:
            cut(admin, pid)
        if statement:
            Credential.update(ipfs_cid="x").where(Credential.id == "c0").execute()
        return len(tries)

    assert work() == 2
    assert sent == tries[1:]
    assert Credential.get().data_hash == "2"


@on_postgresql
@pytest.mark.parametrize("cut", [terminate, close_here])
def test_an_own_transaction_begins_on_a_new_connection(
    ledger: str, admin: psycopg.Connection[Any], cut: Callable[[psycopg.Connection[Any], int], None]
) -> None:
    """``with database.atomic()`` of an issuer, on a connection that was cut since it was last used."""
    cut(admin, database.connection().info.backend_pid)
    with database.atomic():
        Credential.insert(id="c0").execute()
    assert admin.execute("SELECT count(*) FROM credentials").fetchone() == (1,)


@on_postgresql
def test_a_broken_transaction_fails_and_the_next_passes(ledger: str, admin: psycopg.Connection[Any]) -> None:
    """An issuer's own block is not begun anew, sends nothing and raises; the next one does not suffer."""
    sent: list[str] = []

    def block() -> None:
        with database.atomic():
            database.after_commit(lambda: sent.append("first"))
            Credential.insert(id="c0").execute()
            terminate(admin, database.connection().info.backend_pid)

    with pytest.raises(Exception, match=r"terminat|clos|lost"):
        block()
    with database.atomic():
        Credential.insert(id="c1").execute()
    assert admin.execute("SELECT id FROM credentials").fetchall() == [("c1",)]
    assert not sent


@on_postgresql
def test_a_wait_for_a_lock_ends_and_begins_anew(
    ledger: str, monkeypatch: pytest.MonkeyPatch, admin: psycopg.Connection[Any]
) -> None:
    """Who waits too long tries again, and gets through once the lock is free."""
    use_url(f"{ledger}?options=-c%20lock_timeout%3D200", monkeypatch)
    Credential.insert(id="c0").execute()
    tries: list[int] = []

    @transaction
    def work() -> None:
        tries.append(1)
        if len(tries) == 2:
            admin.execute("ROLLBACK")
        Credential.update(data_hash="x").where(Credential.id == "c0").execute()

    admin.execute("BEGIN")
    admin.execute("UPDATE credentials SET data_hash = 'admin'")
    work()
    assert len(tries) == 2


@on_postgresql
def test_the_schema_s_lock_is_waited_for(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long another process changes the schema: `lock_timeout` is for rows."""
    use_url(f"{ledger}?options=-c%20lock_timeout%3D200", monkeypatch)
    database.is_closed()
    done = threading.Event()

    def other() -> None:
        migrate(database.obj)
        done.set()
        close_connection()

    thread = threading.Thread(target=other)
    with psycopg.connect(ledger, autocommit=True) as mine:
        mine.execute("SELECT pg_advisory_lock(7230116001)")
        thread.start()
        assert not done.wait(1)
    thread.join(10)
    assert done.is_set()

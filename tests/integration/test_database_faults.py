"""Promise: neither another process that stops, nor a server that cuts connections, nor a row that no
other program should have written keeps the rest from going on.
"""

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

from pipeline.database import close_connection, database, migrate, reading, transaction
from pipeline.embedded.postgres import PostgresServer
from pipeline.errors import DatabaseUnavailable, InvalidDocument
from pipeline.hashing import load_document
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, leases, metadata, queueing, verification
from pipeline.ledger.confirmation import confirm
from pipeline.models import Credential, Lease, State, Write
from pipeline.settings import get_settings
from tests.waiting import until

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

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


def use_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with this DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", url)
    get_settings.cache_clear()
    database.close_all()


def wait_for_idle_timeout(admin: psycopg.Connection[Any], pid: int) -> None:
    until(lambda: not alive(admin, pid), seconds=10, what="the idle session is ended")


def terminate(admin: psycopg.Connection[Any], pid: int) -> None:
    admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    until(lambda: not alive(admin, pid), seconds=10, what="the session is ended")


def close_here(admin: psycopg.Connection[Any], pid: int) -> None:
    database.connection().close()


def alive(admin: psycopg.Connection[Any], pid: int) -> bool:
    """Whether the server has this session."""
    return admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None


@pytest.fixture
def admin(ledger: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection beside the project's own."""
    with psycopg.connect(ledger, autocommit=True) as connection:
        yield connection


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


# --- reads -----------------------------------------------------------------------------------------


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


# --- leases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [3600.0, 61.0])
def test_a_lease_that_ends_too_far_away_is_not_believed(ledger: str, off: float) -> None:
    """Whose clock was ahead and who then died does not block the sweeps."""
    Lease.insert(name="settle", holder="dead", expires_at=time.time() + off).execute()
    assert leases.acquire("settle", "me", seconds=8)
    assert not leases.acquire("settle", "you", seconds=8)


def test_a_lease_that_may_be_is_believed(ledger: str) -> None:
    """Up to the longest that one may last."""
    Lease.insert(name="settle", holder="other", expires_at=time.time() + 55).execute()
    assert not leases.acquire("settle", "me", seconds=8)


def test_a_lease_lasts_as_long_as_what_it_is_for(ledger: str) -> None:
    """It is prolonged while the work goes on, and given back at its end."""
    with leases.held("settle", seconds=0.6) as mine:
        assert mine
        begun = Lease.get().expires_at
        until(lambda: Lease.get().expires_at > begun + 0.6, seconds=10, what="prolonged more than once")
        with leases.held("settle", seconds=0.6) as second:
            assert not second
    assert Lease.select().count() == 0
    assert not [thread for thread in threading.enumerate() if "_prolong" in thread.name]


def test_a_lease_that_was_lost_stays_lost(ledger: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who took it in the meantime, of a process that had stopped for too long, keeps it."""
    with leases.held("settle", seconds=0.6):
        Lease.update(holder="other", expires_at=time.time() + 30).execute()
        until(lambda: "was lost" in caplog.text, seconds=10, what="seen")
    assert Lease.get().holder == "other"


def test_no_lease_is_longer_than_may_be(ledger: str) -> None:
    """It would not be believed."""
    with pytest.raises(ValueError, match="60"):
        leases.acquire("settle", "me", seconds=61)


@on_postgresql
@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_wrong_clock_of_this_machine(ledger: str, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """Neither takes another's lease nor leaves one that is believed for long: the server's clock counts."""
    right = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + off)
        assert leases.acquire("settle", "wrong", seconds=8)
    assert 5 < Lease.get().expires_at - right() < 9
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + off)
        assert not leases.acquire("settle", "me", seconds=8)


# --- what other programs store ---------------------------------------------------------------------

#: All is JSON, as PostgreSQL's type json understands it; nothing here is jsonb.
OWN_METADATA = (
    r'{"own": "a\u0000b", "half": "\ud800", "n": 1e400, "big": 12345678901234567890.10, '
    r'"blockchain_error": "old"}'
)


@pytest.fixture(params=["json", "text"])
def own_table(
    request: pytest.FixtureRequest, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The issuer's table, whose metadata are of the type json or text."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE credentials (id TEXT PRIMARY KEY, document JSON, data_hash TEXT, ipfs_cid TEXT, "
            f"metadata {request.param}, created_at TIMESTAMPTZ DEFAULT now(), "
            "updated_at TIMESTAMPTZ DEFAULT now())"
        )
    use_url(postgres_url, monkeypatch)
    yield
    database.close_all()


def stored_metadata() -> dict[str, str]:
    """The text of each credential's metadata."""
    return dict(database.execute_sql("SELECT id, metadata::text FROM credentials").fetchall())


def queue(*names: str) -> list[int]:
    """Queue a write for each; returns their ids."""
    return [
        queued.write_id for queued in queueing.queue([WriteRequest.of(name, "ab" * 32) for name in names])
    ]


def test_metadata_that_are_no_jsonb(own_table: None) -> None:
    """A row with ``\\u0000`` passes as all others do, and what the issuer has in it stays as it was."""
    for name, text in {"c0": '{"own": 1}', "c1": OWN_METADATA, "c2": None, "c3": "[1]"}.items():
        Credential.insert(id=name, metadata=text).execute()
    ids = queue("c0", "c1", "c2", "c3")
    assert all('"pending"' in text for text in stored_metadata().values())
    verification.begin(ids)
    verification.join(ids, [], lane="normal", max_size=10, linger_seconds=0)
    batch_id = Write.get().batch_id
    batches.submit_mock(batch_id)
    assert confirm(batch_id)
    found = stored_metadata()
    assert all('"confirmed"' in text for text in found.values())
    for part in (r'"own": "a\u0000b"', r'"half": "\ud800"', '"n": 1e400', '"big": 12345678901234567890.10'):
        assert part in found["c1"]
    assert "blockchain_error" not in found["c1"]
    assert '"own": 1' in found["c0"]


def test_metadata_that_nobody_can_read(own_table: None, request: pytest.FixtureRequest) -> None:
    """Count as none, as they do on SQLite."""
    if request.node.callspec.params["own_table"] == "json":
        Credential.insert(id="c0", metadata=r'"\u0000"').execute()
    else:
        Credential.insert(id="c0", metadata="{no JSON").execute()
    metadata.mark_failed(["c0"], "why")
    assert stored_metadata() == {"c0": '{"blockchain_status": "failed", "blockchain_error": "why"}'}


GOOD_DOCUMENT = '{"a":"é"}'
BAD_UTF8 = "CAST(x'7b2261223a22ff227d' AS TEXT)"


@on_sqlite
def test_a_document_that_is_no_utf8_fails_alone(ledger: str) -> None:
    """Other programs can store such TEXT in SQLite. The good ones of the same message go on."""
    Credential.insert(id="good", document=GOOD_DOCUMENT).execute()
    database.execute_sql(f"INSERT INTO credentials (id, document) VALUES ('bad', {BAD_UTF8})")
    good, bad = verification.begin(queue("good", "bad"))
    assert good.document == GOOD_DOCUMENT
    assert bad.document is not None
    with pytest.raises(InvalidDocument) as caught:
        load_document(bad.document)
    assert caught.value.message.isascii()


@on_sqlite
@pytest.mark.parametrize("column", ["document", "data_hash", "metadata"])
def test_text_that_is_no_utf8_keeps_nobody_waiting(client: Any, column: str) -> None:
    """Wherever in its row it is, the credential beside it is verified."""
    from pipeline.verification import verify

    Credential.insert(id="good").execute()
    database.execute_sql(f"INSERT INTO credentials (id, {column}) VALUES ('bad', {BAD_UTF8})")
    verify(queue("bad", "good"))
    states = dict(Write.select(Write.credential_id, Write.state).tuples())
    assert states["good"] == State.VERIFIED
    assert states["bad"] == (State.VERIFIED if column == "metadata" else State.FAILED)

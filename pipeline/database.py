"""The SQL database: opened at first use, schema brought up to date by whoever opens it first.

SQLite (WAL) and PostgreSQL run the same code. Connections are per thread. Every writing
transaction goes through `transaction`, which waits out locks, deadlocks and a restart of
the server, so that none of these costs an attempt.
"""

from __future__ import annotations

import functools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import peewee
from playhouse.migrations import Runner

from pipeline import prepared
from pipeline.errors import DatabaseUnavailable
from pipeline.prepared import Prepared
from pipeline.settings import get_settings

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

#: Seconds for which SQLite waits for another writer before it gives up.
BUSY_TIMEOUT_SECONDS = 20

#: A lock, a deadlock, a lost connection.
AWAY = (peewee.OperationalError, peewee.InterfaceError, DatabaseUnavailable)

#: How often `transaction` starts anew, and the first pause between two tries (it doubles).
TRIES = 6
FIRST_PAUSE_SECONDS = 0.05

#: What SQLite and psycopg call it when there is no room left.
FULL = ("SQLITE_FULL", "DiskFull")

#: What each PostgreSQL session gets, unless DATABASE_URL (``?options=-c …``) or the role has its own:
#: a process that stops inside a transaction, and so its locks, holds the rest up no longer. Milliseconds.
SESSION_LIMITS = {"idle_in_transaction_session_timeout": "15000", "lock_timeout": "10000"}

#: Parameters of a PostgreSQL connection that DATABASE_URL may set otherwise: when a server that
#: says nothing counts as away (libpq; seconds, but for ``tcp_user_timeout``: milliseconds).
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

#: By SET and not at start-up: a pooler may refuse to start with options it does not know.
SET_LIMITS = """
SELECT set_config(name, (%s::json) ->> name, false) FROM pg_settings
WHERE name IN (SELECT json_object_keys(%s::json))
AND source NOT IN ('client', 'user', 'database', 'database user')
"""

#: Key of the PostgreSQL advisory lock under which the schema is changed.
SCHEMA_LOCK = 7_230_116_001


class PlannedAnew(str):
    """A statement over lists: PostgreSQL plans it for each, as how depends on how long they are."""


class PostgresqlDatabase(peewee.PostgresqlDatabase):
    """PostgreSQL over psycopg 3. JSON columns arrive as text: a document's text is its proof."""

    def _initialize_connection(self, conn: Any) -> None:
        from psycopg.types.string import TextLoader

        for name in ("json", "jsonb"):
            conn.adapters.register_loader(name, TextLoader)
        limits = json.dumps(SESSION_LIMITS)
        try:
            conn.execute(SET_LIMITS, (limits, limits))
        except BaseException:
            conn.close()  # without its limits it is not used
            raise

    def begin(self, isolation_level: Any = None, *, harmless: bool = False) -> None:
        """Begin a transaction, on a new connection if the server has cut the one there was.

        ``harmless``: its commit need not be on disk.
        """
        self._replace_broken()
        begin = self._begin_harmless if harmless else partial(super().begin, isolation_level)
        try:
            begin()
        except peewee.DatabaseError:
            if not self._replace_broken():
                raise
            begin()

    def _begin_harmless(self) -> None:
        """In one round trip. Two statements can not be prepared."""
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # as peewee's own begin
            cursor = self.cursor()  # type: ignore[no-untyped-call]
            cursor.execute("BEGIN; SET LOCAL synchronous_commit TO off", prepare=False)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """As peewee's, but outside of a transaction never on a connection that is known to be broken."""
        self._replace_broken()
        if isinstance(sql, Prepared) and not self.in_transaction():
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # as peewee's own
                return sql.run(self.connection(), params)  # type: ignore[no-untyped-call]
        if isinstance(sql, PlannedAnew):
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]  # as peewee's own
                return self.cursor().execute(sql, params, prepare=False)  # type: ignore[no-untyped-call]
        if sql.startswith("ROLLBACK"):  # of a savepoint
            prepared.forget(self.connection())  # type: ignore[no-untyped-call]
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]  # peewee has no types

    def rollback(self) -> None:
        """As peewee's."""
        if not self.is_closed():
            prepared.forget(self.connection())  # type: ignore[no-untyped-call]
        super().rollback()

    def _replace_broken(self) -> bool:
        """Close a connection that is no more; the next use opens one. What was to follow its commit is off.

        A transaction keeps its broken connection to its end: what it did before is lost, and must not
        be continued, let alone committed, on another one.
        """
        if self.is_closed() or self.in_transaction():
            return False
        if not self.connection().closed:  # type: ignore[no-untyped-call]  # peewee has no types
            return False
        self.close()
        return True


class SqliteDatabase(peewee.SqliteDatabase):
    """SQLite in which TEXT may be anything, because other programs write it too.

    What is no UTF-8 arrives with lone surrogates (PEP 383), so that it fails where it is judged,
    and not the whole statement that reads it.
    """

    def _initialize_connection(self, conn: Any) -> None:
        conn.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")


#: What opens the database when it is asked of one that is closed.
OPENS = {name for name in dir(PostgresqlDatabase) + dir(peewee.SqliteDatabase) if name[:1] != "_"} | {
    "_state"
}


class LazyDatabase(peewee.DatabaseProxy):
    """Stands for the configured database and opens it when it is first used."""

    # peewee names a proxy's attributes here, and only what is named can be set
    __slots__ = ("_Model", "_callbacks", "_opening", "obj")

    def __init__(self) -> None:
        object.__setattr__(self, "_opening", threading.Lock())
        super().__init__()

    def __getattr__(self, name: str) -> Any:
        if self.obj is None:
            if name not in OPENS:  # somebody only looks, as pytest does at whatever a module has
                raise AttributeError(f"the database is not open, and {name!r} does not open it")
            with self._opening:
                if self.obj is None:
                    self.initialize(open_database(get_settings().database_url.get_secret_value()))
        return getattr(self.obj, name)

    def close_all(self) -> None:
        """Close this thread's connection and forget the database; the next use opens it anew."""
        with self._opening:
            if self.obj is not None:
                self.obj.close()
                self.initialize(None)


#: The project's database. ``with database.atomic():`` opens a transaction that `.send()` joins.
database = LazyDatabase()


def open_database(url: str) -> peewee.Database:
    """Open ``sqlite:///path`` or ``postgresql://…`` and bring its schema up to date.

    Raises `DatabaseUnavailable`.
    """
    parts = urlsplit(url)
    db: peewee.Database
    if parts.scheme == "sqlite":
        db = _sqlite(unquote(parts.path.removeprefix("/")) or ":memory:")
    else:
        own = parse_qs(parts.query)
        parameters = {name: value for name, value in CONNECTION.items() if name not in own}
        db = PostgresqlDatabase(
            url.replace("postgres://", "postgresql://", 1), prefer_psycopg3=True, **parameters
        )
    try:
        _migrate_when_free(db)
    except peewee.DatabaseError as exc:
        raise DatabaseUnavailable(f"the database can not be opened: {type(exc).__name__}") from exc
    return db


def _sqlite(path: str) -> peewee.SqliteDatabase:
    pragmas = {"journal_mode": "wal", "synchronous": "full", "temp_store": "memory", "cache_size": -16_000}
    # A write lock that is taken late can't be waited for: every transaction takes it at once.
    return SqliteDatabase(path, pragmas=pragmas, timeout=BUSY_TIMEOUT_SECONDS, lock_type="IMMEDIATE")


def _migrate_when_free(db: peewee.Database) -> None:
    """SQLite waits for no lock while a new file becomes one with a write-ahead log: so this does."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            migrate(db)
        except peewee.OperationalError as exc:
            busy = getattr(exc.args[0], "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(FIRST_PAUSE_SECONDS)  # the other one is at it
        else:
            return


def migrate(db: peewee.Database, target: str | None = None) -> list[str]:
    """Apply the migrations that ``db`` lacks, up to ``target``; returns their names.

    Safe to run twice and from several processes at once.
    """
    with _alone(db):
        return list(Runner(db, str(MIGRATIONS)).up(target))


@contextmanager
def _alone(db: Any) -> Iterator[None]:
    """A transaction in which no other process changes the schema."""
    with db.atomic():
        if not is_sqlite(db):
            _await_schema_lock(db)
        yield


def _await_schema_lock(db: Any) -> None:
    """Wait for it as long as it takes. It ends with the transaction, and so with a process that stops."""
    (limit,) = db.execute_sql("SELECT current_setting('lock_timeout')").fetchone()
    db.execute_sql("SET LOCAL lock_timeout = 0")
    db.execute_sql("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
    db.execute_sql("SELECT set_config('lock_timeout', %s, true)", (limit,))


def is_sqlite(db: Any = None) -> bool:
    """Whether ``db`` (the project's database by default) is SQLite."""
    return isinstance(getattr(db or database, "obj", db) or _opened(), peewee.SqliteDatabase)


def _opened() -> Any:
    database.is_closed()
    return database.obj


def transaction(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` in one writing transaction; start anew after a lock, deadlock or lost connection.

    Inside an open transaction it runs once, as a savepoint: only the owner of the outer
    transaction can start it again. Raises `DatabaseUnavailable` when the tries are used up.
    """

    return _in_transaction(function, harmless=False)


def statement(function: Callable[P, R]) -> Callable[P, R]:
    """`transaction` around one statement, which on PostgreSQL is one by itself: two round trips less."""
    whole = transaction(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return whole(*args, **kwargs) if is_sqlite() else retrying(lambda: function(*args, **kwargs))

    return run


def harmless(function: Callable[P, R]) -> Callable[P, R]:
    """`transaction` whose commit PostgreSQL need not have on disk: to lose it costs a repeat, no more.

    Inside an open transaction it is as durable as that one.
    """

    return _in_transaction(function, harmless=True)


def _in_transaction(function: Callable[P, R], *, harmless: bool) -> Callable[P, R]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        def whole() -> R:
            with database.atomic(**({"harmless": True} if harmless and not is_sqlite() else {})):
                return function(*args, **kwargs)

        return retrying(whole)

    return run


def reading(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function``, which only reads, anew after a lock or a lost connection; it opens no transaction.

    Inside an open transaction it runs once, and what fails there is the owner's to start again.
    Raises `DatabaseUnavailable` when the tries are used up.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return retrying(lambda: function(*args, **kwargs))

    return run


def retrying(work: Callable[[], R]) -> R:
    """``work()``, started anew when the database was locked or away; at most `TRIES` times."""
    if database.obj is not None and database.in_transaction():
        return work()
    for attempt in range(TRIES):
        try:
            return work()
        except (*AWAY, peewee.InternalError) as exc:
            # PostgreSQL counts the end of an idle transaction's session (25P03) as an internal error.
            if not drop_broken_connection() and not isinstance(exc, AWAY):
                raise
            logger.warning("database: %s, try %d of %d", _name_of(exc), attempt + 1, TRIES)
            if attempt + 1 == TRIES:
                raise DatabaseUnavailable(_why(exc)) from exc
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)  # a lock or a restart takes its time
    raise AssertionError("unreachable")


def _name_of(exc: BaseException) -> str:
    """The driver's name of an error: ``DiskFull``, ``SQLITE_BUSY``. Its text may hold values."""
    original = getattr(exc, "orig", exc)  # peewee's have the driver's
    return str(getattr(original, "sqlite_errorname", type(original).__name__))


def _why(exc: BaseException) -> str:
    """SQLite rolls back by itself when its disk is full: that there is nothing to roll back is told last."""
    names, error = [_name_of(exc)], exc.__context__
    while error is not None:
        names.append(_name_of(error))
        error = error.__context__
    full = [name for name in names if name in FULL]
    return f"the database's disk is full: {full[0]}" if full else f"the database does not answer: {names[0]}"


def drop_broken_connection() -> bool:
    """Close this thread's connection when the server has cut it, so that the next use opens one."""
    if database.obj is None or database.is_closed() or database.in_transaction():
        return False
    if database.is_connection_usable():
        return False
    database.close()
    return True


def close_connection() -> None:
    """Close this thread's connection, if it has one."""
    if database.obj is not None and not database.is_closed():
        database.close()

"""The SQL database: opened at first use, schema brought up to date by whoever opens it first.

SQLite (WAL) and PostgreSQL run the same code. Connections are per thread. Every writing
transaction goes through `transaction`, which waits out locks, deadlocks and a restart of
the server, so that none of these costs an attempt.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import peewee
from playhouse.migrations import Runner

from pipeline.errors import DatabaseUnavailable
from pipeline.settings import get_settings

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

#: Seconds for which SQLite waits for another writer before it gives up.
BUSY_TIMEOUT_SECONDS = 20

#: How often `transaction` starts anew, and the first pause between two tries (it doubles).
TRIES = 6
FIRST_PAUSE_SECONDS = 0.05

#: Key of the PostgreSQL advisory lock under which the schema is changed.
SCHEMA_LOCK = 7_230_116_001


class PostgresqlDatabase(peewee.PostgresqlDatabase):
    """PostgreSQL over psycopg 3. JSON columns arrive as text: a document's text is its proof."""

    def _initialize_connection(self, conn: Any) -> None:
        from psycopg.types.string import TextLoader

        for name in ("json", "jsonb"):
            conn.adapters.register_loader(name, TextLoader)


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
        db = PostgresqlDatabase(
            url.replace("postgres://", "postgresql://", 1), prefer_psycopg3=True, connect_timeout=5
        )
    try:
        migrate(db)
    except peewee.DatabaseError as exc:
        raise DatabaseUnavailable(f"the database can not be opened: {type(exc).__name__}") from exc
    return db


def _sqlite(path: str) -> peewee.SqliteDatabase:
    pragmas = {"journal_mode": "wal", "synchronous": "full", "temp_store": "memory", "cache_size": -16_000}
    # A write lock that is taken late can't be waited for: every transaction takes it at once.
    return peewee.SqliteDatabase(path, pragmas=pragmas, timeout=BUSY_TIMEOUT_SECONDS, lock_type="IMMEDIATE")


def migrate(db: peewee.Database, target: str | None = None) -> list[str]:
    """Apply the migrations that ``db`` lacks, up to ``target``; returns their names.

    Safe to run twice and from several processes at once.
    """
    with _alone(db):
        return list(Runner(db, str(MIGRATIONS)).up(target))


def _alone(db: peewee.Database) -> AbstractContextManager[Any]:
    """A transaction in which no other process changes the schema."""
    if is_sqlite(db):
        return db.atomic()
    return _PostgresSchemaLock(db)


class _PostgresSchemaLock:
    def __init__(self, db: Any) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute_sql("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))

    def __exit__(self, *exc_info: object) -> None:
        self._db.execute_sql("SELECT pg_advisory_unlock(%s)", (SCHEMA_LOCK,))


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

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        def whole() -> R:
            with database.atomic():
                return function(*args, **kwargs)

        return retrying(whole)

    return run


def retrying(work: Callable[[], R]) -> R:
    """``work()``, started anew when the database was locked or away; at most `TRIES` times."""
    if database.obj is not None and database.in_transaction():
        return work()
    for attempt in range(TRIES):
        try:
            return work()
        except (peewee.OperationalError, peewee.InterfaceError, DatabaseUnavailable) as exc:
            logger.warning("database: %s, try %d of %d", type(exc).__name__, attempt + 1, TRIES)
            drop_broken_connection()
            if attempt + 1 == TRIES:
                raise DatabaseUnavailable(f"the database does not answer: {type(exc).__name__}") from exc
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")


def drop_broken_connection() -> None:
    """Close this thread's connection when the server has cut it, so that the next use opens one."""
    if database.obj is None or database.is_closed() or database.in_transaction():
        return
    if not database.is_connection_usable():
        database.close()


def close_connection() -> None:
    """Close this thread's connection, if it has one."""
    if database.obj is not None and not database.is_closed():
        database.close()

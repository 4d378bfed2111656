"""What differs between SQLite and PostgreSQL, said once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import peewee as pw

from pipeline.database import database, is_sqlite
from pipeline.models import Credential

T = TypeVar("T")

#: Rows for which one statement is made: below SQLite's limit of bound values.
CHUNK = 500

#: What ends each of many texts that go to PostgreSQL as one, where none of them can have it: to make an
#: array of them takes psycopg longer than all else.
LINE = "\n"


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def each_of(column: Any, ids: Sequence[int]) -> Iterator[Any]:
    """Conditions that take ``ids`` together: one on PostgreSQL, as an array; on SQLite one a chunk."""
    if is_sqlite():
        for part in chunks(ids):
            yield column.in_(part)
    elif ids:
        yield among(column, ids)


def among(column: Any, values: Sequence[int] | Sequence[str]) -> Any:
    """A condition that takes one chunk of ``values``: on PostgreSQL as one array.

    To write a statement of 500 values costs peewee, psycopg and the server more than to run it.
    """
    if is_sqlite():
        return column.in_(list(values))
    return column == pw.fn.ANY(pw.Value(list(values), converter=False, unpack=False))


def still(column: Any, *values: str) -> Any:
    """A guard on rows that are named by their ids: ``column`` is one of ``values``, where no index says so.

    PostgreSQL would look through all that are in the state, however many, and filter by the ids: so
    it chooses where it has no statistics, or those of an empty queue.
    """
    return column.concat("").in_(values)


def locked(query: Any) -> Any:
    """``query`` with its rows locked; on SQLite the IMMEDIATE transaction has done that."""
    return query if is_sqlite() else query.for_update()


def text_of(column: Any) -> Any:
    """A JSON column as the text that was stored."""
    return column if is_sqlite() else column.cast("text")


def lock_credentials(ids: Sequence[str]) -> set[str]:
    """Lock the rows of ``ids`` in one order; returns those that exist."""
    found: set[str] = set()
    for part in chunks(sorted(set(ids))):
        query = Credential.select(Credential.id).where(among(Credential.id, part)).order_by(Credential.id)
        found.update(row[0] for row in locked(query).tuples())
    return found


def now() -> Any:
    """Seconds since the epoch by the one clock that all who use the database share.

    That is the PostgreSQL server's, whatever the clocks of the machines say. All who use an SQLite
    file are on one machine.
    """
    if is_sqlite():
        return pw.Value(time.time())
    return pw.SQL("CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)")


def rows(query: Any) -> list[tuple[Any, ...]]:
    """The rows of ``query`` as plain tuples."""
    return list(query.tuples())


def plain_rows(query: Any) -> list[tuple[Any, ...]]:
    """As `rows`, without peewee's look at each value: for many rows of numbers and text, as stored."""
    return list(database.execute(query).fetchall())

"""A statement that runs for each `.send()`, past the cursors of psycopg: they take as long as its round trip.

On PostgreSQL, for a statement whose answer is one whole number, or null. Elsewhere it is its text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

#: PostgreSQL's number of each type of a parameter, and whether its values go in their binary form.
TYPES = {"text": (25, 0), "bytea": (17, 1), "boolean": (16, 1), "double precision": (701, 1)}

_DOUBLE = struct.Struct("!d")


class Answer:
    """What there is of a cursor."""

    def __init__(self, value: int | None) -> None:
        self._value = value

    def fetchone(self) -> tuple[int | None]:
        """The only row."""
        return (self._value,)


class Prepared(str):
    """The text, with a ``%s`` for each parameter; the database's ``execute_sql`` runs it."""

    _types: list[int]
    _formats: list[int]

    def __new__(cls, text: str, types: Sequence[str]) -> Prepared:
        """``types`` are those of the parameters, keys of `TYPES`."""
        made = super().__new__(cls, text)
        made._types = [TYPES[kind][0] for kind in types]
        made._formats = [TYPES[kind][1] for kind in types]
        return made

    def run(self, connection: Any, values: Sequence[Any]) -> Answer:
        """Outside of a transaction. Raises what psycopg raises."""
        try:
            return self._run(connection, values)
        except _driver().errors.InvalidSqlStatementName:  # a pooler has cleared the session, say
            forget(connection)
            return self._run(connection, values)

    def _run(self, connection: Any, values: Sequence[Any]) -> Answer:
        known = _known.get(connection, {})
        name, encoding = known.get(self) or self._prepare(connection)
        given = [_written(value, encoding) for value in values]
        with connection.lock:
            connection.pgconn.send_query_prepared(name, given, self._formats)
            found = _answer(connection, encoding).get_value(0, 0)
        return Answer(None if found is None else int(found))

    def _prepare(self, connection: Any) -> tuple[bytes, str]:
        name, encoding = b"pipeline_%d" % next(_numbers), connection.info.encoding
        text = self % tuple(f"${number}" for number in range(1, len(self._types) + 1))
        with connection.lock:
            connection.pgconn.send_prepare(name, text.encode(), self._types)
            _answer(connection, encoding)
        _known.setdefault(connection, {})[self] = (name, encoding)
        return name, encoding


#: By connection: the statements that it knows, of each its name and the encoding of its texts.
_known: WeakKeyDictionary[Any, dict[Prepared, tuple[bytes, str]]] = WeakKeyDictionary()

#: Of names: one that may be there still is not given again.
_numbers = count(1)


def forget(connection: Any) -> None:
    """It has been rolled back: psycopg may take all prepared statements away then."""
    _known.pop(connection, None)


def _answer(connection: Any, encoding: str) -> Any:
    """The result of what was sent. psycopg waits, and not libpq, whose wait nothing interrupts."""
    driver = _driver()
    results = connection.wait(driver.generators.execute(connection.pgconn))
    for result in results:  # of a session that is ended meanwhile there may be two
        if result.status == driver.pq.ExecStatus.FATAL_ERROR:
            raise driver.errors.error_from_result(result, encoding)
    return results[0]


@cache
def _driver() -> Any:
    """Loaded by those who have PostgreSQL."""
    import psycopg
    import psycopg.generators

    return psycopg


def _written(value: str | bytes | bool | float | None, encoding: str) -> bytes | None:
    if isinstance(value, str):
        return value.encode(encoding)
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    return _DOUBLE.pack(value) if isinstance(value, float | int) else value

"""Queries whose text never changes: written once, and run with other values each time.

For one credential to pass a stage takes a few statements, and to have peewee write one takes longer than
to run it.

What is the same in each run stands in the text: PostgreSQL, which plans a statement once for whatever values
may come, uses the index of those in a state only where it sees the state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peewee as pw

from pipeline.database import database, is_sqlite


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands among the values of a query for the argument of that number; ``many``: for all in a list."""

    number: int
    many: bool = False

    def value_in(self, arguments: tuple[Any, ...]) -> Any:
        value = arguments[self.number]
        return json.dumps(value) if self.many and is_sqlite() else value


class Fixed:
    """To be called with the arguments of ``build``, which gets a stand-in for each and returns the query."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        #: The text and the values, by whether it is for SQLite.
        self._written: dict[bool, tuple[str, list[Any]]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """The cursor of the query, run with these; its rows are as stored."""
        sqlite = is_sqlite()
        if sqlite not in self._written:
            self._written[sqlite] = self._write(len(arguments))
        text, values = self._written[sqlite]
        given = [value.value_in(arguments) if type(value) is _Place else value for value in values]
        return database.execute_sql(text, given)

    def _write(self, count: int) -> tuple[str, list[Any]]:
        places = [pw.Value(_Place(number), converter=False, unpack=False) for number in range(count)]
        text, values = database.get_sql_context().sql(self._build(*places)).query()
        if is_sqlite():
            return text, list(values)
        written = ["%s" if type(value) is _Place else _constant(value) for value in values]
        return text.replace("%%", "%%%%") % tuple(written), [
            value for value in values if type(value) is _Place
        ]


def _constant(value: Any) -> str:
    """As it stands in a text whose ``%`` are for values."""
    from psycopg.sql import Literal

    return Literal(value).as_string().replace("%", "%%")


def any_of(column: Any, place: Any) -> Any:
    """The condition of a `Fixed` query that ``column`` is in the list in the place of ``place``."""
    many = _Place(place.value.number, many=True)
    if is_sqlite():
        return column.in_(pw.SQL("(SELECT value FROM json_each(?))", [many]))
    return column == pw.fn.ANY(pw.Value(many, converter=False, unpack=False))

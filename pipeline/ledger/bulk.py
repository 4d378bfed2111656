"""Many rows in one statement, each with values of its own.

On PostgreSQL the values go as one array a column: to write a statement of a thousand values costs more
than to run it. SQLite, which is in this process, gets a statement a row, or a chunk of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import peewee as pw

from pipeline.database import PlannedAnew, database, is_sqlite
from pipeline.ledger.sql import chunks, rows

#: PostgreSQL's names of our columns' types.
TYPES = {"BIGAUTO": "bigint", "BIGINT": "bigint", "INT": "integer", "DOUBLE": "float8", "BOOL": "boolean"}

#: Rows of one INSERT on SQLite, which takes 32,766 values.
SQLITE_ROWS = 500


def update_each(
    table: Any,
    ids: Sequence[int],
    columns: Mapping[Any, Sequence[Any]],
    *where: Any,
    common: Mapping[str, Any] | None = None,
) -> None:
    """Set the columns of the row ``ids[i]`` to their ``i``-th values, and ``common`` ones of all.

    Only of rows for which ``where`` holds.
    """
    same = dict(common or {})
    if is_sqlite():
        for number, id_ in enumerate(ids):
            own = {field.name: values[number] for field, values in columns.items()}
            table.update(**same, **own).where(table.id == id_, *where).execute()
    elif ids:
        own = {field.name: pw.SQL(f"new.{field.column_name}") for field in columns}
        query = table.update(**same, **own).from_(_given({table.id: ids, **columns}))
        sql, values = query.where(table.id == pw.SQL("new.id"), *where).sql()
        database.execute_sql(PlannedAnew(sql), values)


def insert_each(table: Any, columns: Mapping[Any, Sequence[Any]], common: Mapping[Any, Any]) -> list[int]:
    """Insert a row for each of the columns' values, ``common`` in all; returns their ids, in order."""
    if is_sqlite():
        new = [
            {**common, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)
        ]
        parts = chunks(new, SQLITE_ROWS)
        return [row[0] for part in parts for row in rows(table.insert_many(part).returning(table.id))]
    names = ", ".join(field.column_name for field in [*columns, *common])
    values = ", ".join([*(f"new.{field.column_name}" for field in columns), *["%s"] * len(common)])
    given = _unnested(columns)
    # Ids are given out in the order in which the rows come.
    sql = f"INSERT INTO {table._meta.table_name} ({names}) SELECT {values} FROM {given} RETURNING id"  # noqa: S608
    found = database.execute_sql(sql, [*common.values(), *map(list, columns.values())])
    return sorted(row[0] for row in found.fetchall())


def _given(columns: Mapping[Any, Sequence[Any]]) -> pw.Node:
    return pw.SQL(_unnested(columns), [list(values) for values in columns.values()])


def _unnested(columns: Mapping[Any, Sequence[Any]]) -> str:
    arrays = ", ".join(f"%s::{TYPES.get(field.field_type, 'text')}[]" for field in columns)
    return f"unnest({arrays}) AS new({', '.join(field.column_name for field in columns)})"

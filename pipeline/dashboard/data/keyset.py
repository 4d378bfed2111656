"""Pages of a list by the keys of its rows: a page deep in a million costs what the first one does.

What comes or goes meanwhile shifts no page, as it would by an offset: no row is shown twice, and
none that stays is left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import peewee as pw

from pipeline.errors import InvalidInput

T = TypeVar("T")

#: A key's integers are ids, of 64 bits.
MAX_ID = 2**63 - 1

#: A longer one is none of ours.
MAX_CURSOR_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows, newest first. ``previous`` is for ``before=``, ``next`` for ``after=``; None: there is none."""

    rows: tuple[T, ...]
    previous: str | None
    next: str | None


def page(
    queries: Sequence[Any],
    columns: Sequence[Any],
    view: Callable[[Any], T],
    *,
    before: str | None,
    after: str | None,
    limit: int,
) -> Page[T]:
    """The rows of all ``queries`` by ``columns``, descending: the top, or what is next to a cursor.

    ``after`` gives what comes next (older rows), ``before`` what comes ahead; where nothing does, the top.
    Raises `InvalidInput` for a cursor that is none of such a list, or for both of them.
    """
    if before is not None and after is not None:
        raise InvalidInput("before and after: one page is next to one cursor")
    if before is not None:
        ahead = _ahead(queries, columns, before, limit)
        if ahead:
            return _page(ahead[-limit:], columns, view, above=len(ahead) > limit, below=True)
    found = _next(queries, columns, after, limit)
    return _page(found[:limit], columns, view, above=after is not None, below=len(found) > limit)


def _next(queries: Sequence[Any], columns: Sequence[Any], after: str | None, limit: int) -> list[Any]:
    if after is not None:
        key = pw.Tuple(*_key(after, len(columns)))
        queries = [query.where(pw.Tuple(*columns) < key) for query in queries]
    order = [column.desc() for column in columns]
    found = [row for query in queries for row in query.order_by(*order).limit(limit + 1)]
    return sorted(found, key=_key_of(columns), reverse=True)[: limit + 1]


def _ahead(queries: Sequence[Any], columns: Sequence[Any], before: str, limit: int) -> list[Any]:
    key = pw.Tuple(*_key(before, len(columns)))
    newer = [query.where(pw.Tuple(*columns) > key).order_by(*columns).limit(limit + 1) for query in queries]
    found = sorted((row for query in newer for row in query), key=_key_of(columns))
    return found[: limit + 1][::-1]


def _key_of(columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda row: tuple(getattr(row, column.safe_name) for column in columns)


def _page(
    found: Sequence[Any], columns: Sequence[Any], view: Callable[[Any], T], *, above: bool, below: bool
) -> Page[T]:
    return Page(
        tuple(view(row) for row in found),
        _cursor(found[0], columns) if found and above else None,
        _cursor(found[-1], columns) if found and below else None,
    )


def _cursor(row: Any, columns: Sequence[Any]) -> str:
    key = _key_of(columns)(row)
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _key(cursor: str, length: int) -> list[int | float]:
    """What `_cursor` has put into it."""
    try:
        if len(cursor) > MAX_CURSOR_LENGTH:
            raise ValueError("too long")
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise InvalidInput("the page's cursor is none") from exc
    if not isinstance(key, list) or len(key) != length or not all(map(_is_part, key)):
        raise InvalidInput("the page's cursor is of another list")
    return key


def _is_part(value: object) -> bool:
    if type(value) is int:
        return 0 <= value <= MAX_ID
    return type(value) is float and math.isfinite(value)

"""Promise: a query that is written once answers each call with that call's own values."""

from __future__ import annotations

from pipeline.ledger.fixed import Fixed, any_of
from pipeline.models import Control

_named = Fixed(
    lambda names, value: (
        Control.select(Control.name)
        .where(any_of(Control.name, names), Control.value == value)
        .order_by(Control.name)
    )
)

_insert = Fixed(lambda name, value: Control.insert(name=name, value=value, updated_at=0.0))


def test_each_call_has_its_values(ledger: str) -> None:
    """Of one name, of several, of none; and of another kind of database afterwards the text is another."""
    for name, value in (("a", "1"), ("b", "1"), ("c", "2")):
        _insert(name, value)
    assert _named(["a", "b", "c"], "1").fetchall() == [("a",), ("b",)]
    assert _named(["c"], "2").fetchall() == [("c",)]
    assert _named([], "1").fetchall() == []

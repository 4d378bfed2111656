"""Promise: a query that is written once answers each call with that call's own values."""

from __future__ import annotations

import pytest

from pipeline.database import database
from pipeline.ledger import under_way
from pipeline.ledger.bulk import update_each
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.models import Batch, Control

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


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_planned_once_for_whatever_comes(ledger: str, database_url: str) -> None:
    """What does not change is seen by PostgreSQL also then: the index of the unmined is used."""
    database.execute_sql("SET enable_seqscan = off")
    database.execute_sql("SET plan_cache_mode = force_generic_plan")
    under_way.waiting(31337, "0x0")
    text, places = under_way._waiting._written[False]
    types = ", ".join(["bigint", "text"][: len(places)])
    numbered = text % tuple(f"${number}" for number in range(1, len(places) + 1))
    database.execute_sql(f"PREPARE planned ({types}) AS {numbered}")
    plan = database.execute_sql("EXPLAIN EXECUTE planned (31337, '0x0')").fetchall()
    assert any("transactions_unmined" in row[0] for row in plan), plan


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_constant_with_a_percent_sign(ledger: str, database_url: str) -> None:
    """It stands in the text as it is."""
    _insert("100 %", "1")
    query = Fixed(lambda value: Control.select().where(Control.name == "100 %", Control.value == value))
    assert query("1").fetchone()[0] == "100 %"
    assert query("2").fetchone() is None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_lists_are_planned_each_time(ledger: str, database_url: str) -> None:
    """psycopg prepares what has run a few times, and PostgreSQL would plan it once for all lengths."""
    for _ in range(10):
        update_each(Batch, [1], {Batch.reason: ["none"]})
        _named(["a"], "1")
    [prepared] = database.execute_sql(
        "SELECT string_agg(statement, ';') FROM pg_prepared_statements"
    ).fetchall()
    assert "control" in prepared[0]
    assert "batches" not in prepared[0]

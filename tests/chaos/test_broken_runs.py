"""Promise: a pipeline without one of the things that make it hold does not get through a chaos run."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import main
from tests.chaos.broken import BROKEN, without_state
from tests.chaos.invariants import (
    confirmed_blocks_are_canonical,
    confirmed_ones_were_settled,
    intent_came_first,
)

#: A run takes its time where others use the machine too.
pytestmark = pytest.mark.timeout(300)

#: A run in which blocks are taken away, and messages come again and again; `test_invariants` has it whole.
RUN = [
    *("--seed=7", "--credentials=60", "--faults=6", "--masters=1"),
    *("--only=reorg", "--only=messages doubled"),
]

#: The check that names the cause.
CAUSES = {
    "intent": intent_came_first,
    "guard": confirmed_ones_were_settled,
    "reorg": confirmed_blocks_are_canonical,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_is_red(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what does not hold, and how the run is made again."""
    assert main([*RUN, f"--broken={broken}"]) == 1
    said = capsys.readouterr().out
    assert str(CAUSES[broken].__doc__) in said
    assert f"--broken {broken}" in said.splitlines()[-1]


def test_what_is_taken_out_of_a_statement() -> None:
    """The guard of what moves batches that it names; what looks for some keeps its condition."""
    update = 'UPDATE "batches" SET "state" = %s WHERE (("batches"."id" = %s) AND ("batches"."state" = %s))'
    assert without_state(update).endswith('AND (("batches"."state" = %s OR TRUE)))')
    lock = 'SELECT 1 FROM "batches" AS "t1" WHERE ("t1"."id" = %s AND "t1"."state" IN (%s, %s)) FOR UPDATE'
    assert '("t1"."state" IN (%s, %s) OR TRUE)' in without_state(lock)
    bulk = (
        "UPDATE batches AS b SET state = %s FROM unnest(%s) AS n WHERE b.id = n.id AND b.state = 'submitted'"
    )
    assert without_state(bulk).endswith("AND (b.state = 'submitted' OR TRUE)")
    named = (
        'UPDATE "batches" SET "state" = %s WHERE (("id" = ANY(%s)) AND (("batches"."state" || %s) IN (%s)))'
    )
    assert without_state(named).endswith('AND ((("batches"."state" || %s) IN (%s) OR TRUE)))')
    fixed = named.replace("|| %s", "|| ''").replace("(%s))", "('settled'))")
    assert without_state(fixed).endswith("AND (((\"batches\".\"state\" || '') IN ('settled') OR TRUE)))")
    search = 'SELECT "t1"."id" FROM "batches" AS "t1" WHERE ("t1"."state" = %s) FOR UPDATE'
    assert without_state(search) == search
    other = 'UPDATE "writes" SET "state" = %s WHERE (("id" = %s) AND ("state" = %s))'
    assert without_state(other) == other

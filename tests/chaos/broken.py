"""The test of the test: what the pipeline must not do without, taken out of the workers of a run.

Each of these is called in a worker process, with the folder of the run's orders, and leaves a file of its
name there once it was of any effect: a run in which it never was shows nothing.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.end_to_end.rosters.failpoints import named

#: How often a worker dies between what was sent and what is to be stored.
DEATHS = 1

#: The condition of a statement on the state that a batch has to come from.
STATE = re.compile(
    r"""(?:\((?:"?\w+"?\.)?"?state"?\s*\|\|\s*(?:%s|'')\)|(?:"?\w+"?\.)?"?\bstate"?)"""
    r"""\s*(?:=\s*ANY\s*\(%s\)|=\s*(?:%s|'\w+')|IN\s*\([%s,'\w\s]+\))""",
    re.IGNORECASE,
)
#: It moves batches, or locks them to do so; and it names them: what only looks for some has no guard.
MOVES = re.compile(r'UPDATE\s+"?batches\b|\bFROM\s+"?batches\b.*\bFOR UPDATE\b', re.IGNORECASE | re.DOTALL)
NAMES_THEM = re.compile(r"""(?:"?\w+"?\.)?"?\bid"?\s*(?:=|IN\b)""", re.IGNORECASE)


def without_intent(folder: Path) -> None:
    """What is signed goes out at once, and is stored afterwards; a worker dies between the two."""
    owner, name = named("pipeline.chain.client", "ChainClient.prepare_anchor")
    prepare = getattr(owner, name)

    def prepare_and_send(self: Any, *args: Any, **kwargs: Any) -> Any:
        signed = prepare(self, *args, **kwargs)
        self.send(signed.raw)
        _mark(folder / "intent")
        if any(_mark(folder / f"death {number}") for number in range(DEATHS)):
            os.kill(os.getpid(), signal.SIGKILL)
        return signed

    setattr(owner, name, prepare_and_send)


def without_guard(folder: Path) -> None:
    """A batch is moved on from whatever state it is in: a late or doubled message does it twice."""
    owner, name = named("pipeline.database", "PostgresqlDatabase.execute_sql")
    execute = getattr(owner, name)

    def execute_unguarded(self: Any, sql: str, params: Any = None) -> Any:
        unguarded = without_state(sql)
        if unguarded != sql:
            _mark(folder / "guard")
        return execute(self, unguarded, params)

    setattr(owner, name, execute_unguarded)


def without_state(sql: str) -> str:
    """The statement with its guard made true, and its parameters where they were."""
    head, where, condition = sql.partition(" WHERE ")
    if not where or not MOVES.search(sql) or not NAMES_THEM.search(condition):
        return sql
    return head + where + STATE.sub(lambda found: f"({found[0]} OR TRUE)", condition)


def without_reorg_check(folder: Path) -> None:
    """Nobody looks whether the block of a confirmed batch is still in the chain."""
    owner, name = named("pipeline.settlement.watch", "look")

    def look_away(*_: Any, **__: Any) -> None:
        _mark(folder / "reorg")

    setattr(owner, name, look_away)


def _mark(path: Path) -> bool:
    """Make this file; False when it was there already."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


BROKEN: Mapping[str, Callable[[Path], None]] = {
    "intent": without_intent,
    "guard": without_guard,
    "reorg": without_reorg_check,
}

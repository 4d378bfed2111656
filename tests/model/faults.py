"""The process dies at a boundary between two effects: a commit, a message, a call of the node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.database import database

#: Of which kind, and how many of that kind are passed before.
Boundary = tuple[str, int]

KINDS = ("begin", "commit", "message", "ask", "send", "sent")


class Crash(BaseException):
    """The process is killed here; nothing of ours may catch it."""


class Boundaries:
    """Counts the boundaries that are passed; at the chosen one the process is dead, and stays so."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._kind = ""
        self._visit: Callable[[], None] | None = None

    @contextmanager
    def visited_at(self, boundary: Boundary, visit: Callable[[], None]) -> Iterator[None]:
        """Another process does ``visit`` at that boundary, or at the next at which no transaction is open."""
        (self._kind, self._left), self._visit = boundary, visit
        try:
            yield
        finally:
            self._left = self._visit = None

    @contextmanager
    def dying_at(self, boundary: Boundary) -> Iterator[None]:
        """Die at that boundary, if the block passes so many."""
        self._kind, self._left = boundary
        try:
            yield
        except Crash:
            return
        finally:
            self._left = None

    def passed(self, kind: str) -> None:
        """Raises `Crash` where the process dies, and for all that ``finally`` blocks try afterwards."""
        if self._left is None:
            return
        if self._left >= 0:
            self._left -= kind == self._kind
        if self._left >= 0:
            return
        if self._visit is None:
            raise Crash
        if not database.in_transaction():
            visit, self._left, self._visit = self._visit, None, None
            visit()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Each transaction's begin and end are boundaries; one that dies before its commit is rolled back."""
        opened: Any = database.obj
        begin, commit = opened.begin, opened.commit

        def begin_or_die(*args: Any) -> None:
            self.passed("begin")
            begin(*args)

        def commit_or_die() -> None:
            try:
                self.passed("commit")
            except Crash:
                opened.rollback()
                opened._clear_commit_callbacks()
                raise
            commit()

        patch.setattr(opened, "begin", begin_or_die)
        patch.setattr(opened, "commit", commit_or_die)

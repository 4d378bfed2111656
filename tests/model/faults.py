"""The process dies at a boundary between two effects: a commit, a message, a call of the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.database import database


class Crash(BaseException):
    """The process is killed here; nothing of ours may catch it."""


class Boundaries:
    """Counts the boundaries that are passed; at the chosen one the process is dead, and stays so."""

    def __init__(self) -> None:
        self._left: int | None = None

    @contextmanager
    def dying_at(self, number: int) -> Iterator[None]:
        """Die at that boundary, if the block passes so many."""
        self._left = number
        try:
            yield
        except Crash:
            return
        finally:
            self._left = None

    def passed(self) -> None:
        """Raises `Crash` where the process dies, and for all that ``finally`` blocks try afterwards."""
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            raise Crash

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Each transaction's begin and end are boundaries; one that dies before its commit is rolled back."""
        opened: Any = database.obj
        begin, commit = opened.begin, opened.commit

        def begin_or_die(*args: Any) -> None:
            self.passed()
            begin(*args)

        def commit_or_die() -> None:
            try:
                self.passed()
            except Crash:
                opened.rollback()
                opened._clear_commit_callbacks()
                raise
            commit()

        patch.setattr(opened, "begin", begin_or_die)
        patch.setattr(opened, "commit", commit_or_die)

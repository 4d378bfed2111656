"""Who may work beside whom within one process: together, or quite alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A readers-writer lock between threads; who wants to be alone does not wait for newcomers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._is_alone = False
        self._want_alone = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """With others that are here together."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone and not self._want_alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, *, seconds: float) -> Iterator[bool]:
        """With nobody else: ``with turns.alone(…) as alone``; False when others took longer than that."""
        with self._changed:
            self._want_alone += 1
            try:
                mine = self._changed.wait_for(lambda: not self._is_alone and not self._together, seconds)
                self._is_alone |= mine
            finally:
                self._want_alone -= 1
                self._changed.notify_all()
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._is_alone = False
                    self._changed.notify_all()

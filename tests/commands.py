"""What ``./run bench`` and ``./run chaos`` have in common: how they tell of wrong use, and are broken off."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: What a shell says of a program that SIGINT and SIGTERM have ended.
INTERRUPTED, TERMINATED = 130, 143


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and ends this process with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog.removeprefix('./run ')}: {message}\n")


def positive(text: str) -> int:
    """A number of an argument, 1 or more."""
    return not_negative(text, least=1)


def not_negative(text: str, *, least: int = 0) -> int:
    """A number of an argument, 0 or more."""
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} on")
    return int(text)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """All that is ours ends in order, as with Ctrl-C; SIGKILL leaves the guards to do so."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def broken_off(name: str) -> int:
    """Say so; the exit code."""
    print(f"{name}: broken off; what it had started is ended", file=sys.stderr)
    return INTERRUPTED

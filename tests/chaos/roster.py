"""The roster of a chaos run's workers: killed at a boundary by order, and broken where that is asked for.

A file of a boundary's name in the folder ``CHAOS_ORDERS`` is an order to die there; who does takes it away.
``CHAOS_BROKEN`` is one of `tests.chaos.broken`. The product knows nothing of either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from pipeline.actors import *  # noqa: F403
from tests.chaos.broken import BROKEN
from tests.end_to_end.rosters.failpoints import NAMES, arm


def dying(order: Path) -> Callable[[], None]:
    """What kills this process where there is that order."""

    def die() -> None:
        try:
            order.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def arm_all(orders: Path) -> None:
    """Arm every boundary; each has to be there."""
    for name in NAMES:
        arm(name, dying(orders / name))


if "CHAOS_ORDERS" in os.environ:
    folder = Path(os.environ["CHAOS_ORDERS"])
    if broken := os.environ.get("CHAOS_BROKEN"):
        BROKEN[broken](folder)
    arm_all(folder)

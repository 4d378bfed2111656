"""The roster of workers that are killed at a named boundary, once, with nothing flushed.

``FAILPOINT`` names it (``before_broadcast``; ``before_broadcast:3`` at the third passing, ``:0`` never, but
told; several with commas between), ``FAILPOINT_MARKERS`` a folder. A death leaves a file there first, of
the boundary's name: a worker that is started again passes by. The product knows nothing of this.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.actors import *  # noqa: F403

#: Before and after the call of which function: module, and name in it as the caller looks it up; with a bar
#: between, the first of these that is there: where many are done at once, the one of a single is not called.
BOUNDARIES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "verify": (("pipeline.verification", "check"),) * 2,
    "join": (("pipeline.ledger.joining", "join"),) * 2,
    # In one SQL transaction: the signer's row is locked, the nonce is taken, the bytes are stored.
    "reserve": (("pipeline.ledger.nonces", "lock_signer"),) * 2,
    # Nonce taken, batch closed, nothing committed; then all of it is.
    "store": (("pipeline.ledger.nonces", "store_many"), ("pipeline.ledger.batches", "submit_many")),
    "broadcast": (("pipeline.chain.client", "ChainClient.send_many"),) * 2,
    "receipt": (("pipeline.ledger.transactions", "record_mined_and_settle"),) * 2,
    "update": (("pipeline.completion", "confirm_many"),) * 2,
    "next_send": (("pipeline.messages", "write"),) * 2,
    "update_send": (("pipeline.messages", "update_many"),) * 2,
    "ack": (("pipeline.consumer", "Consumer.ack"),) * 2,
}

NAMES = [f"{when}_{boundary}" for boundary in BOUNDARIES for when in ("before", "after")]


def place_of(name: str) -> tuple[Any, str]:
    """The module or class, and the name in it; raises `AttributeError` for what is not there any more."""
    when, _, boundary = name.partition("_")
    before, after = BOUNDARIES[boundary]
    return named(*(before if when == "before" else after))


def named(module: str, paths: str) -> tuple[Any, str]:
    """Where the first of ``paths`` is that is in that module; raises `AttributeError` when none is."""
    for path in paths.split("|"):
        owner: Any = importlib.import_module(module)
        *parents, attribute = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        if hasattr(owner, attribute):
            return owner, attribute
    raise AttributeError(f"{module} has no {paths}")


def dying(name: str, passing: int, markers: Path) -> Callable[[], None]:
    """What kills this process when it is called for the ``passing``-th time, unless one has died there.

    With 0 it only leaves the marker.
    """
    passings = itertools.count(1)

    def die() -> None:
        if next(passings) < passing:
            return
        try:
            os.close(os.open(markers / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        if passing:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def arm(name: str, die: Callable[[], None]) -> None:
    """Call ``die`` at the boundary."""
    owner, attribute = place_of(name)
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if name.startswith("before"):
            die()
        result = function(*args, **kwargs)
        if name.startswith("after"):
            die()
        return result

    setattr(owner, attribute, wrapped)


def arm_all(failpoints: str, markers: Path) -> None:
    """Arm what the variable says; every boundary has to be there, armed or not."""
    for name in NAMES:
        place_of(name)
    for failpoint in failpoints.split(","):
        name, _, passing = failpoint.partition(":")
        arm(name, dying(name, int(passing or 1), markers))


if "FAILPOINT" in os.environ:  # a test imports the names
    arm_all(os.environ["FAILPOINT"], Path(os.environ["FAILPOINT_MARKERS"]))

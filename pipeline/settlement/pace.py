"""When the next sweep is due: the ticker comes every two seconds, a faster chain has more to say."""

from __future__ import annotations

import time

from pipeline import messages
from pipeline.chain.blocks import Block

#: The ticker's own interval, in seconds, and the shortest one that is asked for.
TICK_SECONDS, SHORTEST_SECONDS = 2.0, 0.25

#: Seconds until a chain that mines at once has done so, and the sweep after a send looks once more.
SOON_SECONDS = (0.01, 0.03)

#: Blocks that come faster are made of each transaction as it comes, and by no clock.
ON_DEMAND_SECONDS = 0.1

#: How long a block takes as long as nobody knows, to who must not be impatient: as on Ethereum.
UNKNOWN_SECONDS = 12.0

_newest: Block | None = None
_block_seconds = TICK_SECONDS
_is_known = False
_asked_until = 0.0
_mines_at_once = True


def saw(head: Block) -> None:
    """Learn from the newest block how long a block takes."""
    global _newest, _block_seconds, _is_known
    if _newest is not None and head.number > _newest.number:
        _block_seconds = (head.timestamp - _newest.timestamp) / (head.number - _newest.number)
        _is_known = True
    _newest = head


def block_seconds() -> float:
    """How long a block takes, as far as it is known."""
    return _block_seconds if _is_known else UNKNOWN_SECONDS


def comes_on_demand() -> bool:
    """Whether a block is made of each transaction as it comes, as far as that is known."""
    return _block_seconds < ON_DEMAND_SECONDS


def is_next_due() -> bool:
    """Whether a sweep has to be asked for, where anything waits for it."""
    return _block_seconds < TICK_SECONDS and time.monotonic() >= _asked_until


def ask_for_the_next() -> None:
    """Have a sweep made when the next block is due, if that is before the ticker comes; one at a time."""
    global _asked_until
    if not is_next_due():
        return
    delay_seconds = max(_block_seconds, SHORTEST_SECONDS)
    _asked_until = time.monotonic() + delay_seconds
    messages.send("settle", delay_ms=int(delay_seconds * 1000))


def pauses() -> tuple[float, ...]:
    """Seconds before each look at what has become of a send: more than one where blocks come at once."""
    return (0.0, *SOON_SECONDS) if mines_at_once() else (0.0,)


def mines_at_once() -> bool:
    """Whether a send may be in a block as soon as it is answered."""
    return _mines_at_once or comes_on_demand()


def mined_at_once(mined: bool) -> None:
    """Learn whether any of what was sent was in a block after these."""
    global _mines_at_once
    _mines_at_once = mined

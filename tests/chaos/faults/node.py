"""What goes wrong between a node and its clients: the fault proxy does it."""

from __future__ import annotations

import random

from tests.chaos.faults.waiting import last
from tests.chaos.site import ChaosSite

#: How many blocks a node lags behind at least before it follows again, and for how long it does.
LAG_BLOCKS, LAG_SECONDS = 3, 2.0


def cut_replies(site: ChaosSite, chance: random.Random) -> str:
    """The node has the transaction, and nobody is told so."""
    times = chance.randint(1, 2)
    site.proxy.cut_reply("eth_sendRawTransaction", times)
    return f"{times} of eth_sendRawTransaction"


def refuse_requests(site: ChaosSite, chance: random.Random) -> str:
    """Connections are closed unread."""
    times = chance.randint(1, 4)
    site.proxy.refuse("*", times)
    return f"{times} requests"


def go_away(site: ChaosSite, chance: random.Random) -> str:
    """Nothing answers for some seconds."""
    seconds = chance.uniform(1, 6)
    site.proxy.down = True
    try:
        last(seconds)
    finally:
        site.proxy.down = False
    return f"for {seconds:.1f} s"


def answer_status(site: ChaosSite, chance: random.Random) -> str:
    """A provider has too much to do."""
    status, times = chance.choice([429, 502, 503]), chance.randint(1, 4)
    site.proxy.answer_status("*", status, times, retry_after=1 if status == 429 else None)
    return f"{times} times {status}"


def truncate_replies(site: ChaosSite, chance: random.Random) -> str:
    """Half of an answer."""
    times = chance.randint(1, 3)
    site.proxy.truncate_reply("*", times, broken=chance.random() < 0.5)
    return f"{times} answers"


def lag(site: ChaosSite, chance: random.Random) -> str:
    """Two nodes answer by turns, and one of them does not see the newest blocks."""
    head = site.anvil.block_number
    site.proxy.freeze(1)
    site.proxy.alternate = True
    try:
        for _ in range(LAG_BLOCKS):
            site.anvil.mine()
            last(LAG_SECONDS / LAG_BLOCKS)
    finally:
        site.proxy.alternate, site.proxy.current = False, 0
        site.proxy.thaw(1)
    return f"by {site.anvil.block_number - head} blocks"

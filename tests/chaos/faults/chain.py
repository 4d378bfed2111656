"""What happens on the chain: blocks go, transactions are dropped or too cheap, a nonce is somebody else's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.chain.client import ChainClient
from pipeline.models import Signer
from pipeline.settings import Settings
from tests.chaos.faults.waiting import last, waited
from tests.chaos.site import ChaosSite

DEEPEST_REORG = 6

#: Seconds for which the head stays as low: longer than a gap is watched before it is filled.
LOW_SECONDS = 8.0

#: Seconds for which the wallet is empty.
EMPTY_SECONDS = 2.0


def _taken_away(site: ChaosSite, chance: random.Random) -> int:
    """How many blocks are to go, which is noted; none of those before the registry's."""
    depth = min(chance.randint(1, DEEPEST_REORG), site.anvil.block_number - site.first_block)
    if depth > 0:
        site.reorgs.append(depth)
    return depth


def reorganise(site: ChaosSite, chance: random.Random) -> str:
    """Blocks are taken away, others without transactions come in their place."""
    depth = _taken_away(site, chance)
    if depth < 1:
        return "no block to take away"
    site.anvil.rpc("anvil_reorg", depth, [])
    site.anvil.mine()
    return f"{depth} blocks"


def fall_back(site: ChaosSite, chance: random.Random) -> str:
    """The node goes on from an older state: nothing comes in the place of the blocks for a while."""
    depth = _taken_away(site, chance)
    if depth < 1:
        return "no block to take away"
    site.anvil.rpc("anvil_rollback", depth)
    last(LOW_SECONDS)
    return f"{depth} blocks, for {LOW_SECONDS:g} s"


@contextmanager
def _filled_pool(site: ChaosSite) -> Iterator[bool]:
    """No block is made meanwhile; whether something waits for one."""
    site.anvil.rpc("evm_setAutomine", False)
    try:
        yield waited(lambda: site.anvil.pool_size > 0)
    finally:
        site.anvil.rpc("evm_setAutomine", True)
        site.anvil.mine()


def drop_transaction(site: ChaosSite, chance: random.Random) -> str:
    """The node forgets what it has taken."""
    with _filled_pool(site) as filled:
        if not filled:
            return "the pool was empty"
        content = site.anvil.rpc("txpool_content")["pending"]
        hashes = sorted(sent["hash"] for by_nonce in content.values() for sent in by_nonce.values())
        site.anvil.rpc("anvil_dropTransaction", chance.choice(hashes))
        return f"one of {len(hashes)}"


def raise_base_fee(site: ChaosSite, chance: random.Random) -> str:
    """What is in the pool pays less than the next blocks ask for; the fee falls by an eighth a block."""
    with _filled_pool(site) as filled:
        if not filled:
            return "the pool was empty"
        content = site.anvil.rpc("txpool_content")["pending"]
        caps = [int(_cap(sent), 16) for by_nonce in content.values() for sent in by_nonce.values()]
        site.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(max(caps) * 3 // 2))
        return f"{len(caps)} are too cheap"


def _cap(sent: dict[str, Any]) -> str:
    return str(sent.get("maxFeePerGas") or sent["gasPrice"])


def empty_wallet(site: ChaosSite, chance: random.Random) -> str:
    """Nothing can be paid for, until somebody fills it again."""
    address = site.anvil.address
    balance = site.anvil.rpc("eth_getBalance", address, "latest")
    site.anvil.rpc("anvil_setBalance", address, "0x0")
    try:
        last(EMPTY_SECONDS)
    finally:
        site.anvil.rpc("anvil_setBalance", address, balance)
    return f"for {EMPTY_SECONDS:g} s"


def skip_nonce(site: ChaosSite, chance: random.Random) -> str:
    """One was given out for something that was never sent: all after it wait until it is filled."""
    moved = Signer.update(next_nonce=Signer.next_nonce + 1).execute()
    return "left out" if moved else "nobody has signed yet"


def use_nonce(site: ChaosSite, chance: random.Random) -> str:
    """Somebody else with the same key sends something."""
    direct = {**site.variables, "blockchain_rpc_url": site.anvil.rpc_url}
    other = ChainClient(Settings(**direct))
    nonce = other.transaction_counts()[1]
    fees = other.fees()
    prepared = other.prepare_filler(nonce, fees)
    if not other.send(prepared.raw).taken:
        return f"{nonce} was taken already"
    site.foreign[prepared.hash] = nonce
    return f"{nonce}"

"""What a transaction offers for its gas (EIP-1559), clamped by BLOCKCHAIN_MAX_FEE_GWEI."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.chain.blocks import quantity
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.errors import FeeCeiling

GWEI = 10**9
#: A market is asked again after so long; no chain that is meant here has faster blocks that matter.
MAX_AGE_SECONDS = 2.0
#: How many blocks' tips are looked at, and how much room is left for the base fee to rise.
HISTORY_BLOCKS, BASE_FEE_ROOM = 10, 2
#: geth takes no transaction without a tip; a private chain on which all is free suggests 0.
MIN_TIP_WEI = 1


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei for a unit of gas. On a chain without base fee both are the gas price, and ``legacy`` is true."""

    max_fee_wei: int
    tip_wei: int
    legacy: bool = False


class FeeMarket:
    """What the chain asks for now, asked once a block. Threads may share it."""

    def __init__(self, rpc: RpcClient, ceiling_wei: int) -> None:
        self._rpc = rpc
        self._ceiling_wei = ceiling_wei
        self._lock = threading.Lock()
        self._offer: Fees | None = None
        self._read_at = 0.0
        self._head: int | None = None

    def current(self) -> Fees:
        """Fees at most 2 s old. Raises `FeeCeiling`, `NodeUnreachable`."""
        with self._lock:
            if self._offer is None or time.monotonic() - self._read_at > MAX_AGE_SECONDS:
                self._offer = None
                self._offer = offer(*self._read(), ceiling_wei=self._ceiling_wei)
                self._read_at = time.monotonic()
            return self._offer

    def new_head(self, number: int) -> None:
        """Another block is the newest: what was asked before is outdated."""
        with self._lock:
            if number != self._head:
                self._head, self._offer = number, None

    def replacement(self, previous: Fees) -> Fees:
        """Fees for a transaction that takes the place of one. Raises `FeeCeiling`, `NodeUnreachable`."""
        base_fee_wei, tip_wei = self._read()
        return replacement(previous, base_fee_wei, tip_wei, ceiling_wei=self._ceiling_wei)

    def _read(self) -> tuple[int | None, int]:
        history, suggested, head, gas_price = self._rpc.batch(
            [
                ("eth_feeHistory", [hex(HISTORY_BLOCKS), "latest", [50]]),
                ("eth_maxPriorityFeePerGas", []),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_gasPrice", []),
            ]
        )
        if isinstance(head, RpcError):
            raise head
        base_fee_wei = next_base_fee_wei(history, head)
        if base_fee_wei is None:
            if isinstance(gas_price, RpcError):
                raise gas_price
            return None, quantity(gas_price)
        suggested_wei = MIN_TIP_WEI if isinstance(suggested, RpcError) else quantity(suggested)
        return base_fee_wei, max(usual_tip_wei(history, suggested_wei), min(MIN_TIP_WEI, suggested_wei))


def offer(base_fee_wei: int | None, tip_wei: int, *, ceiling_wei: int) -> Fees:
    """Fees for a chain with that base fee and tip; without base fee ``tip_wei`` is the gas price.

    A tip for which there is no room is smaller. Raises `FeeCeiling` when the next block takes nothing
    that pays up to ``ceiling_wei``.
    """
    needed_wei = tip_wei if base_fee_wei is None else base_fee_wei + min(tip_wei, MIN_TIP_WEI)
    if needed_wei > ceiling_wei:
        raise FeeCeiling(
            f"the chain asks for {needed_wei / GWEI:g} gwei, "
            f"BLOCKCHAIN_MAX_FEE_GWEI is {ceiling_wei / GWEI:g}"
        )
    if base_fee_wei is None:
        return Fees(tip_wei, tip_wei, legacy=True)
    max_fee_wei = min(BASE_FEE_ROOM * base_fee_wei + tip_wei, ceiling_wei)
    return Fees(max_fee_wei, min(tip_wei, max_fee_wei - base_fee_wei))


def replacement(previous: Fees, base_fee_wei: int | None, tip_wei: int, *, ceiling_wei: int) -> Fees:
    """Fees at least an eighth above ``previous``, both of them, and what the chain asks for where it is more.

    geth takes no replacement that is not a tenth dearer in both (``--txpool.pricebump``). The tip may
    be more than the cap leaves over the base fee: then what is left is paid (EIP-1559). Raises
    `FeeCeiling` when an eighth more, or what the next block takes, is above ``ceiling_wei``.
    """
    lowest_wei = _an_eighth_more(previous.max_fee_wei)
    lowest_tip_wei = _an_eighth_more(previous.tip_wei)
    legacy = previous.legacy or base_fee_wei is None
    base_fee_wei = base_fee_wei or 0
    if legacy:
        needed_wei = max(lowest_wei, base_fee_wei + tip_wei)
    else:
        needed_wei = max(lowest_wei, base_fee_wei + min(tip_wei, MIN_TIP_WEI))
    if needed_wei > ceiling_wei:
        raise FeeCeiling(
            f"it pays up to {previous.max_fee_wei / GWEI:g} gwei and would have to pay "
            f"{needed_wei / GWEI:g}, BLOCKCHAIN_MAX_FEE_GWEI is {ceiling_wei / GWEI:g}"
        )
    if legacy:
        return Fees(needed_wei, needed_wei, legacy=True)
    tip_wei = max(tip_wei, lowest_tip_wei)
    max_fee_wei = min(max(lowest_wei, BASE_FEE_ROOM * base_fee_wei + tip_wei), ceiling_wei)
    return Fees(max_fee_wei, max(lowest_tip_wei, min(tip_wei, max_fee_wei - base_fee_wei)))


def _an_eighth_more(wei: int) -> int:
    return wei + max(-(-wei // 8), 1)


def next_base_fee_wei(history: Any, head: Mapping[str, Any]) -> int | None:
    """The next block's base fee where the node tells it, else the newest block's; None before London."""
    if head.get("baseFeePerGas") is None:
        return None
    known = [] if isinstance(history, RpcError) else history.get("baseFeePerGas")
    return quantity(known[-1] if known else head["baseFeePerGas"])


def usual_tip_wei(history: Any, fallback_wei: int) -> int:
    """The median of what blocks with transactions in them took; ``fallback_wei`` when there were none."""
    if isinstance(history, RpcError):
        return fallback_wei
    used = zip(history.get("reward") or [], history.get("gasUsedRatio") or [], strict=False)
    tips_wei = [quantity(rewards[0]) for rewards, ratio in used if ratio and rewards]
    return int(median(tips_wei)) if tips_wei else fallback_wei

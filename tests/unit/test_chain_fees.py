"""Promise: what is offered leaves room for a rising base fee, and never exceeds BLOCKCHAIN_MAX_FEE_GWEI."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chain.fees import GWEI, Fees, next_base_fee_wei, offer, usual_tip_wei
from pipeline.chain.rpc import RpcError
from pipeline.errors import FeeCeiling

AMOUNTS_WEI = st.integers(0, 10**15)


def test_the_cap_is_twice_the_base_fee_and_the_tip() -> None:
    """The base fee can double (six full blocks) before the transaction has to wait."""
    assert offer(10 * GWEI, 2 * GWEI, ceiling_wei=200 * GWEI) == Fees(22 * GWEI, 2 * GWEI)


def test_the_cap_is_clamped_by_the_ceiling() -> None:
    """With less room, but enough for the next block."""
    assert offer(10 * GWEI, 2 * GWEI, ceiling_wei=15 * GWEI) == Fees(15 * GWEI, 2 * GWEI)


@pytest.mark.parametrize("base_fee_wei", [None, 14 * GWEI])
def test_a_market_above_the_ceiling_is_refused(base_fee_wei: int | None) -> None:
    """The message has both amounts and the setting."""
    with pytest.raises(FeeCeiling, match=r"asks for \d+ gwei, BLOCKCHAIN_MAX_FEE_GWEI is 15"):
        offer(base_fee_wei, 16 * GWEI if base_fee_wei is None else 2 * GWEI, ceiling_wei=15 * GWEI)


def test_without_base_fee_the_gas_price_is_offered() -> None:
    """A chain before London, as some private ones are."""
    assert offer(None, 3 * GWEI, ceiling_wei=5 * GWEI) == Fees(3 * GWEI, 3 * GWEI, legacy=True)


@given(AMOUNTS_WEI, AMOUNTS_WEI, AMOUNTS_WEI)
def test_no_offer_is_above_the_ceiling_or_in_vain(base_fee_wei: int, tip_wei: int, ceiling_wei: int) -> None:
    """Tip ≤ cap ≤ ceiling, and the cap covers the next block; or there is no offer."""
    try:
        fees = offer(base_fee_wei, tip_wei, ceiling_wei=ceiling_wei)
    except FeeCeiling:
        assert base_fee_wei + tip_wei > ceiling_wei
    else:
        assert tip_wei <= fees.max_fee_wei <= ceiling_wei
        assert base_fee_wei + tip_wei <= fees.max_fee_wei


def history(*blocks: tuple[int, float]) -> dict[str, Any]:
    """``eth_feeHistory`` of blocks with that tip (wei) and share of gas used; the base fee is 7, then 9."""
    return {
        "reward": [[hex(tip)] for tip, _ in blocks],
        "gasUsedRatio": [ratio for _, ratio in blocks],
        "baseFeePerGas": ["0x7"] * len(blocks) + ["0x9"],
    }


def test_the_tip_is_the_median_of_blocks_that_held_something() -> None:
    """Nodes report a tip of 0 for an empty block, which says nothing of what a tip has to be."""
    assert usual_tip_wei(history((5, 0.5), (0, 0), (7, 0.1), (1000, 0.9), (0, 0)), 1) == 7


@pytest.mark.parametrize("told", [history((0, 0), (0, 0)), {"reward": None}, {}, RpcError("no such method")])
def test_without_history_the_nodes_suggestion_counts(told: Any) -> None:
    """Empty blocks, a node without history."""
    assert usual_tip_wei(told, 42) == 42


def test_the_next_blocks_base_fee_counts() -> None:
    """The history has one entry more than blocks; without it the newest block's is taken."""
    head = {"baseFeePerGas": "0x7"}
    assert next_base_fee_wei(history((1, 0.5)), head) == 9
    assert next_base_fee_wei(RpcError("no such method"), head) == 7
    assert next_base_fee_wei(history((1, 0.5)), {}) is None

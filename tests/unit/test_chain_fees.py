"""Promise: what is offered leaves room for a rising base fee, and never exceeds BLOCKCHAIN_MAX_FEE_GWEI."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chain.fees import GWEI, Fees, next_base_fee_wei, offer, replacement, usual_tip_wei
from pipeline.chain.rpc import RpcError
from pipeline.errors import FeeCeiling

AMOUNTS_WEI = st.integers(0, 10**15)


def test_the_cap_is_twice_the_base_fee_and_the_tip() -> None:
    """The base fee can double (six full blocks) before the transaction has to wait."""
    assert offer(10 * GWEI, 2 * GWEI, ceiling_wei=200 * GWEI) == Fees(22 * GWEI, 2 * GWEI)


def test_the_cap_is_clamped_by_the_ceiling() -> None:
    """With less room, but enough for the next block."""
    assert offer(10 * GWEI, 2 * GWEI, ceiling_wei=15 * GWEI) == Fees(15 * GWEI, 2 * GWEI)


def test_the_tip_is_clamped_by_the_ceiling() -> None:
    """A block takes what pays its base fee: the tip is what is left, down to the smallest there is."""
    assert offer(10 * GWEI, 8 * GWEI, ceiling_wei=15 * GWEI) == Fees(15 * GWEI, 5 * GWEI)
    assert offer(10 * GWEI, 8 * GWEI, ceiling_wei=10 * GWEI + 1) == Fees(10 * GWEI + 1, 1)


@pytest.mark.parametrize("base_fee_wei", [None, 15 * GWEI])
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
        assert base_fee_wei + min(tip_wei, 1) > ceiling_wei
    else:
        assert min(tip_wei, 1) <= fees.tip_wei <= tip_wei
        assert base_fee_wei + fees.tip_wei <= fees.max_fee_wei <= ceiling_wei


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


# --- replacements --------------------------------------------------------------------------------

CEILING_WEI = 200 * GWEI


@pytest.mark.parametrize(
    ("previous", "market", "expected"),
    [
        # The market is where it was: an eighth more of both.
        (Fees(80, 8), (10, 2), Fees(90, 9)),
        # Rounded up, and never by less than 1 wei: geth takes no equal fee.
        (Fees(81, 1), (10, 1), Fees(92, 2)),
        (Fees(1, 0), (0, 0), Fees(2, 1)),
        # The market asks for more.
        (Fees(80, 8), (100, 20), Fees(220, 20)),
        # A gas price.
        (Fees(80, 80, legacy=True), (None, 10), Fees(90, 90, legacy=True)),
        (Fees(80, 80, legacy=True), (None, 300), Fees(300, 300, legacy=True)),
        # Signed before the chain had a base fee: it stays a gas price.
        (Fees(80, 80, legacy=True), (100, 20), Fees(120, 120, legacy=True)),
    ],
)
def test_a_replacement_is_an_eighth_dearer_or_what_the_chain_asks_for(
    previous: Fees, market: tuple[int | None, int], expected: Fees
) -> None:
    """Whichever is more."""
    assert replacement(previous, *market, ceiling_wei=CEILING_WEI) == expected


def test_the_room_of_a_replacement_is_clamped_by_the_ceiling() -> None:
    """An eighth more is below it, twice the base fee is not."""
    fees = replacement(Fees(100 * GWEI, GWEI), 120 * GWEI, GWEI, ceiling_wei=CEILING_WEI)
    assert fees == Fees(CEILING_WEI, GWEI * 9 // 8)


def test_the_tip_of_a_replacement_is_clamped_by_the_ceiling() -> None:
    """An eighth more it has to be; the block pays itself what is left over the base fee."""
    fees = replacement(Fees(80 * GWEI, 10 * GWEI), 85 * GWEI, GWEI, ceiling_wei=95 * GWEI)
    assert fees == Fees(95 * GWEI, 10 * GWEI * 9 // 8)
    fees = replacement(Fees(80 * GWEI, GWEI), 85 * GWEI, 20 * GWEI, ceiling_wei=95 * GWEI)
    assert fees == Fees(95 * GWEI, 10 * GWEI)


@pytest.mark.parametrize(
    ("previous", "base_fee_wei", "needed"),
    [
        (Fees(180 * GWEI, GWEI), 10 * GWEI, "202.5"),
        (Fees(100 * GWEI, GWEI), 210 * GWEI, "210"),
        (Fees(190 * GWEI, 190 * GWEI, legacy=True), None, "213.75"),
    ],
)
def test_a_replacement_above_the_ceiling_is_refused(
    previous: Fees, base_fee_wei: int | None, needed: str
) -> None:
    """An eighth more is above it, or the chain asks for more than it: with both amounts in the message."""
    with pytest.raises(FeeCeiling, match=rf"to pay {needed}, BLOCKCHAIN_MAX_FEE_GWEI is 200$"):
        replacement(previous, base_fee_wei, GWEI, ceiling_wei=CEILING_WEI)


@given(AMOUNTS_WEI, AMOUNTS_WEI, st.none() | AMOUNTS_WEI, AMOUNTS_WEI, AMOUNTS_WEI, st.booleans())
def test_no_replacement_is_too_cheap_or_above_the_ceiling(
    cap_wei: int, tip_wei: int, base_fee_wei: int | None, market_tip_wei: int, ceiling_wei: int, legacy: bool
) -> None:
    """Both fields an eighth up, tip ≤ cap ≤ ceiling, enough for the next block; or there is none."""
    tip_wei = cap_wei if legacy else min(tip_wei, cap_wei)
    try:
        fees = replacement(
            Fees(cap_wei, tip_wei, legacy=legacy), base_fee_wei, market_tip_wei, ceiling_wei=ceiling_wei
        )
    except FeeCeiling:
        market_wei = market_tip_wei if legacy or base_fee_wei is None else min(market_tip_wei, 1)
        assert max(cap_wei * 9 / 8 + 1, (base_fee_wei or 0) + market_wei) > ceiling_wei
    else:
        assert fees.legacy == (legacy or base_fee_wei is None)
        for before_wei, after_wei in ((cap_wei, fees.max_fee_wei), (tip_wei, fees.tip_wei)):
            assert after_wei > before_wei
            assert 8 * after_wei >= 9 * before_wei
        assert fees.tip_wei <= fees.max_fee_wei <= ceiling_wei
        assert (base_fee_wei or 0) + min(market_tip_wei, 1) <= fees.max_fee_wei

"""Promise: operators are told a day before the wallet is empty, by what the last day has really cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.chain.client import chain_client
from pipeline.ledger import funds
from pipeline.ledger import incidents as ledger
from pipeline.models import Batch, BatchState, Incident, Signer
from pipeline.settlement import settle
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import confirmed, settle_and_complete, write

CHAIN, SIGNER = 31337, "0x" + "02" * 20
#: As much as makes four of them more than 64 bits.
GAS, PRICE_WEI = 10**8, 5 * 10**10
HOUR_SECONDS = 3600.0


def mined(*, hours_ago: float, **changes: Any) -> None:
    """A batch that was mined that long ago."""
    usual = {
        "lane": "normal",
        "state": BatchState.CONFIRMED,
        "chain_id": CHAIN,
        "issuer": SIGNER,
        "gas_used": GAS,
        "gas_price_wei": str(PRICE_WEI),
        "block_time": time.time() - hours_ago * HOUR_SECONDS,
    }
    Batch.create(**usual | changes)


def test_what_a_day_has_cost(ledger: str) -> None:
    """That of this signer on this chain, in blocks of the last 24 hours that are still there."""
    assert funds.spent_per_day_wei(CHAIN, SIGNER) == 0
    for hours_ago in (0.1, 1, 12, 23.9):
        mined(hours_ago=hours_ago)
    mined(hours_ago=24.1)
    mined(hours_ago=1, issuer="0x" + "03" * 20)
    mined(hours_ago=1, chain_id=1)
    mined(hours_ago=1, block_time=None)  # a reorg took its block away
    mined(hours_ago=1, gas_used=None, gas_price_wei=None)
    assert funds.spent_per_day_wei(CHAIN, SIGNER) == 4 * GAS * PRICE_WEI > 2**64


def test_days_left() -> None:
    """Nothing spent is not for ever: nobody knows."""
    assert funds.days_left(10**18, 0) is None
    assert funds.days_left(10**18, 4 * 10**18) == 0.25
    assert funds.days_left(0, 1) == 0.0


def test_only_a_signer_that_has_signed_is_asked_about(ledger: str) -> None:
    """Its row is where the balance is kept, and says when it is to be asked for again."""
    assert not funds.balance_is_due(CHAIN, SIGNER, after_seconds=60)
    assert not funds.record_balance(CHAIN, SIGNER, 5)
    Signer.create(chain_id=CHAIN, address=SIGNER, next_nonce=1)
    assert funds.balance_is_due(CHAIN, SIGNER, after_seconds=60)
    assert funds.record_balance(CHAIN, SIGNER, 2**70)
    assert not funds.balance_is_due(CHAIN, SIGNER, after_seconds=60)
    assert Signer.get().balance_wei == str(2**70)
    Signer.update(balance_at=time.time() - 61).execute()
    assert funds.balance_is_due(CHAIN, SIGNER, after_seconds=60)


@pytest.fixture
def look_at(proxy: FaultProxy, anvil: Anvil) -> Callable[[float], None]:
    """Let the wallet hold what lasts for so many days, and a sweep look at it."""
    write(1)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    chain = chain_client()
    spent_wei = funds.spent_per_day_wei(chain.chain_id, chain.signer_address)
    # As if a day cost so much that what is left of it still covers a write.
    Batch.update(gas_used=Batch.gas_used * 100_000).execute()

    def look(days: float) -> None:
        anvil.rpc("anvil_setBalance", chain.signer_address, hex(int(spent_wei * 100_000 * days)))
        Signer.update(balance_at=0).execute()
        settle_after_a_block(anvil)

    return look


def settle_after_a_block(anvil: Anvil) -> None:
    """A sweep that has something to look at."""
    anvil.mine()
    settle()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_funds_below_a_day(look_at: Callable[[float], None], anvil: Anvil) -> None:
    """One critical incident, over when there is plenty again, and writing goes on all the while."""
    look_at(1.2)
    assert not Incident.select().exists()
    look_at(0.9)
    incident = Incident.get()
    assert (incident.kind, incident.level, incident.closed_at) == ("FundsLow", "fatal", None)
    assert incident.subject == f"{chain_client().chain_id}:{chain_client().signer_address}"
    assert "lasts for 21.6 hours" in incident.message
    write(1, start=1)
    anvil.mine()
    settle_and_complete()
    assert (confirmed(), ledger.holding()) == (2, None)
    look_at(1.2)
    assert Incident.get().closed_at is None
    look_at(2)
    assert Incident.get().closed_at is not None
    assert Incident.select().count() == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_once_a_minute(proxy: FaultProxy, look_at: Callable[[float], None], anvil: Anvil) -> None:
    """However many sweeps there are."""
    look_at(2)
    proxy.counts.clear()
    for _ in range(3):
        settle_after_a_block(anvil)
    assert proxy.counts["eth_getBalance"] == 0
    Signer.update(balance_at=time.time() - 61).execute()
    for _ in range(3):
        settle_after_a_block(anvil)
    assert proxy.counts["eth_getBalance"] == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_earlier_keys_funds_are_no_concern(look_at: Callable[[float], None]) -> None:
    """What was told of a wallet that nobody writes with any more is over."""
    other = f"{chain_client().chain_id}:{SIGNER}"
    ledger.begin("FundsLow", other, "low", level="fatal")
    look_at(0.5)
    assert ledger.subjects_of("FundsLow") == {f"{chain_client().chain_id}:{chain_client().signer_address}"}

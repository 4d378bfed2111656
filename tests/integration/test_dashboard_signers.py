"""Promise: the dashboard's page of signers says what is in flight and how long the funds last."""

from __future__ import annotations

import time

import pytest

from pipeline.dashboard.data.signer import signers
from pipeline.ledger import funds
from pipeline.models import Batch, Transaction
from tests.ledger import ACCOUNT, MINED, confirmed, written


def test_a_signer(ledger: str) -> None:
    """Two writes are through, one is under way; an earlier key has nothing any more."""
    assert signers() == ()
    for _ in range(2):
        confirmed()
    written()
    [before] = signers()
    assert (before.address, before.next_nonce, before.in_flight) == (ACCOUNT.signer, 3, 1)
    assert (before.balance_wei, before.spent_per_day_wei, before.days_left) == (None, 0, None)
    Batch.update(block_time=time.time()).where(Batch.state == "confirmed").execute()
    cost_wei = MINED.gas_used * MINED.gas_price_wei
    assert funds.record_balance(ACCOUNT.chain_id, ACCOUNT.signer, 5 * cost_wei)
    Transaction.update(created_at=time.time() - 100).where(Transaction.state == "signed").execute()
    [found] = signers()
    assert (found.balance_wei, found.spent_per_day_wei, found.days_left) == (5 * cost_wei, 2 * cost_wei, 2.5)
    assert found.oldest_unmined_seconds == pytest.approx(100, abs=30)
    Transaction.update(lost_at=1.0).execute()
    [lost] = signers()
    assert (lost.in_flight, lost.oldest_unmined_seconds) == (0, None)

"""The second stage: the most urgent ready batch becomes one transaction."""

from __future__ import annotations

import logging
import time

from pipeline import attempts, messages
from pipeline.chain.client import ChainClient, chain_client
from pipeline.chain.fees import Fees
from pipeline.ledger import batches, transactions
from pipeline.ledger.batches import Account
from pipeline.middleware.rate_limit import wait_for_slot
from pipeline.models import Batch, Transaction
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

STAGE = "chain_write"

#: Seconds after which a thread lets another message have its turn; far below the time limit.
TURN_SECONDS = 60.0


def next_ready() -> Batch | None:
    """The batch that may be written now: not paused, and not too many transactions in flight."""
    settings = get_settings()
    limit = None if settings.blockchain_mock_enabled else settings.blockchain_max_in_flight
    return batches.next_ready(limit)


def ready() -> bool:
    """Whether there is such a batch."""
    return next_ready() is not None


def write_ready() -> None:
    """Write ready batches until there is none, or the turn has been held for long enough."""
    deadline = time.monotonic() + TURN_SECONDS
    while write_next() and time.monotonic() < deadline:
        pass


def write_next() -> bool:
    """Write one batch: guards and fees first, then a rate slot, then the intent, then the bytes.

    The batch is chosen and closed last of all, so that it grows while it waits. False when
    there was none.
    """
    first = next_ready()
    if first is None:
        return False
    if get_settings().blockchain_mock_enabled:
        return _write_mock()
    chain, passed = chain_client(), False
    with attempts.at_batch(first.id, stage=STAGE):
        chain.check_guards()
        passed = True
    return _write(chain) if passed else True


def _write_mock() -> bool:
    batch = next_ready() if wait_for_slot(ready) else None
    if batch is None:
        return False
    with attempts.at_batch(batch.id, stage=STAGE):
        if batches.submit_mock(batch.id):
            messages.update(batch.id, batch.lane)
    return True


def _write(chain: ChainClient) -> bool:
    batch = next_ready() if wait_for_slot(ready) else None
    if batch is None:
        return False
    stored = None
    with attempts.at_batch(batch.id, stage=STAGE):
        stored = _submit(batch.id, chain, chain.fees())
    if stored is not None:
        broadcast(chain, stored)
        messages.send("settle")
    return True


def _submit(batch_id: int, chain: ChainClient, fees: Fees) -> Transaction | None:
    account = Account(chain.chain_id, chain.signer_address, chain.contract_address)
    return batches.submit(
        batch_id,
        account,
        nonce_floor=_nonce_floor(chain),
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, fees),
    )


def _nonce_floor(chain: ChainClient) -> int:
    """The first nonce that the chain still takes, where none of ours is on its way to tell us."""
    if batches.unmined_count():
        return 0
    _, pending = chain.transaction_counts()
    return pending


def broadcast(chain: ChainClient, stored: Transaction) -> None:
    """Send the stored bytes, whether for the first time or again, and note the answer."""
    answer = chain.send(bytes.fromhex(stored.raw_transaction.removeprefix("0x")))
    transactions.record_answer(stored.id, f"{answer.kind.value}: {answer.text}"[:500], taken=answer.taken)
    logger.info(
        "transaction sent: %s",
        answer.kind.value,
        extra={"transaction_hash": stored.hash, "nonce": stored.nonce},
    )

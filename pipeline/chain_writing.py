"""The second stage: the most urgent ready batch becomes one transaction."""

from __future__ import annotations

import logging

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


def next_ready() -> Batch | None:
    """The batch that may be written now: not paused, and not too many transactions in flight."""
    settings = get_settings()
    limit = None if settings.blockchain_mock_enabled else settings.blockchain_max_in_flight
    return batches.next_ready(limit)


def ready() -> bool:
    """Whether there is such a batch."""
    return next_ready() is not None


def write_next() -> None:
    """Write one batch: guards and fees first, then a rate slot, then the intent, then the bytes.

    The batch is chosen and closed last of all, so that it grows while it waits.
    """
    first = next_ready()
    if first is None:
        return
    if get_settings().blockchain_mock_enabled:
        _write_mock()
    else:
        _write(first.id, chain_client())


def _write_mock() -> None:
    if not wait_for_slot(ready):
        return
    batch = next_ready()
    if batch is None:
        return
    with attempts.at_batch(batch.id, stage=STAGE):
        if batches.submit_mock(batch.id):
            messages.update(batch.id, batch.lane)


def _write(blamed_batch_id: int, chain: ChainClient) -> None:
    with attempts.at_batch(blamed_batch_id, stage=STAGE):
        chain.check_guards()
    if not wait_for_slot(ready):
        return
    batch = next_ready()
    if batch is None:
        return
    with attempts.at_batch(batch.id, stage=STAGE):
        stored = _submit(batch.id, chain, chain.fees())
    if stored is not None:
        broadcast(chain, stored)
        messages.send("settle")


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

"""The second stage: the most urgent ready batch becomes one transaction."""

from __future__ import annotations

import logging
import time

from pipeline import attempts, holding, messages, sending
from pipeline.chain.client import ChainClient, chain_client
from pipeline.ledger import batches, nonces
from pipeline.ledger.batches import Account
from pipeline.middleware.rate_limit import wait_for_slot
from pipeline.models import Batch, Transaction
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

STAGE = "chain_write"

#: Seconds after which a thread lets another message have its turn; far below the time limit.
TURN_SECONDS = 60.0


def next_ready() -> Batch | None:
    """The batch that may be written now: nothing holds it, and not too many transactions are in flight."""
    settings = get_settings()
    if settings.blockchain_mock_enabled:
        return batches.next_ready()
    return batches.next_ready(settings.blockchain_max_in_flight, settings.blockchain_chain_id)


def ready() -> bool:
    """Whether there is such a batch."""
    return next_ready() is not None


def write_ready() -> None:
    """Write ready batches until there is none, or the turn has been held for long enough."""
    deadline = time.monotonic() + TURN_SECONDS
    while write_next() and time.monotonic() < deadline:
        pass


def write_next() -> bool:
    """Write one batch: guards first, then a rate slot, then the intent, then the bytes.

    The batch is chosen and closed last of all, so that it grows while it waits. False when
    there was none.
    """
    first = next_ready()
    if first is None:
        return False
    if get_settings().blockchain_mock_enabled:
        return _write_mock()
    chain = chain_client()
    if not _is_fit(first.id, chain):
        return True
    return _write(chain)


def _is_fit(batch_id: int, chain: ChainClient, *, fresh: bool = False) -> bool:
    """Whether chain, wallet and settings let anything be written; what is against it holds chain writing."""
    fit = False
    with attempts.at_batch(batch_id, stage=STAGE):
        try:
            holding.check(chain, fresh=fresh)
            chain.fees()
            fit = True
        except holding.HOLDS as error:
            holding.hold(error)
    return fit


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
    # Waiting may have taken long: what has changed meanwhile must not cost a nonce.
    if not _is_fit(batch.id, chain, fresh=True):
        return True
    stored = None
    with attempts.at_batch(batch.id, stage=STAGE):
        stored = _submit(batch.id, chain)
    if stored is not None:
        sending.send_in_order(chain, stored)
        messages.send("settle")
    return True


def _submit(batch_id: int, chain: ChainClient) -> Transaction | None:
    account = Account(chain.chain_id, chain.signer_address, chain.contract_address)
    fees = chain.fees()
    return batches.submit(
        batch_id,
        account,
        nonce_floor=_nonce_floor(chain, account),
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, fees),
        max_in_flight=get_settings().blockchain_max_in_flight,
    )


def _nonce_floor(chain: ChainClient, account: Account) -> int:
    """The first nonce that the chain still takes, where none of ours is on its way to tell us."""
    if nonces.unmined_count(account.chain_id, account.signer):
        return 0
    _, pending = chain.transaction_counts()
    return pending

"""The second stage: the most urgent ready batch becomes one transaction."""

from __future__ import annotations

import logging
import time

from pipeline import attempts, holding, incidents, messages, sending
from pipeline.chain.client import ChainClient, chain_client
from pipeline.errors import NonceConflict
from pipeline.ledger import batches, nonces
from pipeline.ledger.batches import Account
from pipeline.metrics import catalogue, recorder
from pipeline.middleware.rate_limit import wait_for_slot
from pipeline.models import Batch, Transaction
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

STAGE = "chain_write"

#: How often, in seconds, a sweep is asked for while writing goes on; the ticker's come besides.
SETTLE_SECONDS = 0.5

#: A slot that is granted within so many seconds did not have to be waited for.
AT_ONCE_SECONDS = 0.05

#: Seconds after which a thread lets another message have its turn; far below the time limit.
TURN_SECONDS = 60.0


def next_ready() -> Batch | None:
    """The batch that may be written now: nothing holds it, and not too many transactions are in flight."""
    settings = get_settings()
    if settings.blockchain_mock_enabled:
        return batches.next_ready()
    return batches.next_ready(
        settings.blockchain_max_in_flight, settings.blockchain_chain_id, chain_client().signer_address
    )


def ready() -> bool:
    """Whether there is such a batch."""
    return next_ready() is not None


def write_ready() -> None:
    """Write ready batches until there is none, or the turn has been held for long enough."""
    deadline = time.monotonic() + TURN_SECONDS
    asked_at, written = time.monotonic(), False
    while write_next() and time.monotonic() < deadline:
        written = True
        if time.monotonic() - asked_at > SETTLE_SECONDS:
            messages.send("settle")
            asked_at, written = time.monotonic(), False
    if written and not get_settings().blockchain_mock_enabled:
        messages.send("settle")


def write_next() -> bool:
    """Write one batch: a rate slot first, then the guards, then the intent, then the bytes.

    The batch is closed last of all, so that it grows while it waits. False when there was none.
    """
    batch = _with_slot()
    if batch is None:
        return False
    with recorder.timed(catalogue.STAGE_DURATION, stage=STAGE):
        if get_settings().blockchain_mock_enabled:
            _write_mock(batch)
        else:
            _write(batch, chain_client())
    return True


def _with_slot() -> Batch | None:
    """The batch to write, once the limiter has granted a slot; chosen again when that took time."""
    batch, begin = next_ready(), time.monotonic()
    if batch is None or not wait_for_slot(ready):
        return None
    return batch if time.monotonic() - begin < AT_ONCE_SECONDS else next_ready()


def _write_mock(batch: Batch) -> None:
    with attempts.at_batch(batch.id, stage=STAGE, again=batch.retrying):
        if batches.submit_mock(batch.id):
            messages.update(batch.id, batch.lane)


def _write(batch: Batch, chain: ChainClient) -> None:
    """What is against chain, wallet or settings holds chain writing, and costs neither attempt nor nonce."""
    stored = None
    with attempts.at_batch(batch.id, stage=STAGE, again=batch.retrying):
        try:
            in_flight = holding.check(chain, fresh=True)
            stored = _submit(batch.id, chain, in_flight.count)
        except holding.OF_A_WALLET as error:
            holding.hold(error, signer=chain.signer_address)
        except holding.HOLDS as error:
            holding.hold(error)
    if stored is not None:
        sending.send_in_order(chain, stored)


def _submit(batch_id: int, chain: ChainClient, in_flight: int) -> Transaction | None:
    account = Account(chain.chain_id, chain.signer_address, chain.contract_address)
    fees = chain.fees()
    return batches.submit(
        batch_id,
        account,
        nonce_floor=0 if in_flight else _first_free_nonce(chain),
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, fees),
        max_in_flight=get_settings().blockchain_max_in_flight,
    )


def _first_free_nonce(chain: ChainClient) -> int:
    """The first that the chain still takes, where none of ours is on its way to tell."""
    pending = chain.transaction_counts()[1]
    ours = nonces.next_nonce(chain.chain_id, chain.signer_address)
    if ours is not None and pending > ours:
        error = NonceConflict(
            f"nonces {ours} to {pending - 1} of {chain.signer_address} were used by transactions that are "
            "not ours: somebody else has the key, or the database was restored from a backup"
        )
        subject = incidents.of_signer(chain.chain_id, chain.signer_address)
        incidents.report(error, subject=subject, level="fatal", over=True)
    return pending

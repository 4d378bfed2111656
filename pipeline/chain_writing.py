"""The second stage: the most urgent ready batches become transactions, one each, several at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from dramatiq.errors import Retry

from pipeline import attempts, holding, incidents, messages, sending, settlement
from pipeline.chain.client import ChainClient, chain_client
from pipeline.errors import ChainError, NonceConflict, PipelineError
from pipeline.ledger import batches, nonces, transactions, under_way
from pipeline.ledger.batches import Account, Ready
from pipeline.metrics import catalogue, recorder
from pipeline.middleware.rate_limit import wait_for_slots
from pipeline.models import Transaction
from pipeline.outlook import Outlook
from pipeline.ready import batches_ready
from pipeline.settings import get_settings
from pipeline.settlement import pace

T = TypeVar("T")

logger = logging.getLogger(__name__)

STAGE = "chain_write"

#: Batches that are written together, at most: as many as fit into one request to a node.
GROUP = 100

#: How often, in seconds, a sweep is asked for while writing goes on; the ticker's come besides. On a chain
#: that mines at once another thread makes them as often as there is something for them.
SETTLE_SECONDS, AT_ONCE_SETTLE_SECONDS = 0.5, 0.1

#: As many used nonces are worth a sweep, which costs the same for a hundred as for a few; more than the other
#: never wait for one.
WORTH_A_SWEEP, MOST_UNSWEPT = 50, 400

#: A slot that is granted within so many seconds did not have to be waited for.
AT_ONCE_SECONDS = 0.05

#: Seconds after which a thread lets another message have its turn; far below the time limit.
TURN_SECONDS = 60.0


def write_ready() -> None:
    """Write ready batches until there is none, or the turn has been held for long enough.

    Then, and when as many are in flight as may be, a sweep looks at once what is mined: a fast chain
    has room again.
    """
    deadline, outlook, unswept = time.monotonic() + TURN_SECONDS, Outlook(), False
    while (written := _write_while_there_is_room(deadline, outlook)) or unswept:
        if get_settings().blockchain_mock_enabled:
            return
        unswept = written and _mined_meanwhile(outlook)
        if not (unswept or _settled_some(outlook)) or time.monotonic() > deadline:
            return


def _mined_meanwhile(outlook: Outlook) -> bool:
    """Whether there is more room since the chain has used nonces at once, of which no sweep has told yet.

    Only where there was none. The sweep is another thread's, as long as one keeps up with it.
    """
    chain, room = chain_client(), outlook.room()
    if room is None or room > 0 or not pace.mines_at_once():
        return False
    waiting = under_way.waiting(chain.chain_id, chain.signer_address)
    if len(waiting) >= MOST_UNSWEPT:
        return False
    if len(waiting) >= WORTH_A_SWEEP and outlook.asks_for_a_sweep(AT_ONCE_SETTLE_SECONDS):
        messages.send("settle", True)
    return _used_soon(chain, outlook, waiting)


def _used_soon(chain: ChainClient, outlook: Outlook, waiting: Sequence[int]) -> bool:
    """Whether the chain uses more of these nonces than were known to be used, before long."""
    for pause_seconds in pace.pauses():
        time.sleep(pause_seconds)  # over HTTP a node tells nobody of a block
        try:
            outlook.look_at_nonces(chain, waiting)
        except ChainError as exc:
            logger.warning("not known what is mined: %s", exc.message)
            return False
        if outlook.room():
            return True
    return False


def _settled_some(outlook: Outlook) -> bool:
    """Whether there is more room after a sweep; on a fast chain after a few of them."""
    before = left = _in_flight()
    outlook.swept()
    swept = True
    for pause_seconds in pace.pauses():
        time.sleep(pause_seconds)  # over HTTP a node tells nobody of a block
        swept = _sweep()
        left = _in_flight()
        if left < before:
            break
    if not swept:
        messages.send("settle")  # another process was at it, and may have looked too early
    pace.mined_at_once(left < before)
    return left < before


def _sweep() -> bool:
    """Whether a sweep was made; the next one has more luck with the node."""
    try:
        return settlement.settle(by_writer=True)
    except ChainError as exc:
        logger.warning("settle failed: %s", exc.message)
        return True


def _in_flight() -> int:
    settings = get_settings()
    return under_way.in_flight(settings.blockchain_chain_id, chain_client().signer_address).count


def _write_while_there_is_room(deadline: float, outlook: Outlook) -> bool:
    """Whether anything was written."""
    written = False
    while write_next(outlook=outlook) and time.monotonic() < deadline:
        written = True
        if not get_settings().blockchain_mock_enabled and outlook.asks_for_a_sweep(SETTLE_SECONDS):
            messages.send("settle", True)
    return written


def write_next(limit: int = GROUP, *, outlook: Outlook | None = None) -> bool:
    """Write the next batches: rate slots first, then the guards, then the intents, then the bytes.

    They are closed last of all, so that they grow while they wait. False when there was none.
    """
    outlook = outlook or Outlook()
    group = _with_slots(limit, outlook)
    if not group:
        if outlook.room() != 0:  # who has paused writing may change what was believed
            outlook.forget()
        return False
    with recorder.timed(catalogue.STAGE_DURATION, stage=STAGE):
        if get_settings().blockchain_mock_enabled:
            _write_mock(group)
        else:
            _write(group, chain_client(), outlook)
    return True


def _with_slots(limit: int, outlook: Outlook) -> list[Ready]:
    """The batches to write, once the limiter has granted slots; chosen again when that took time."""
    room = outlook.room()
    group, begin = batches_ready(limit, room), time.monotonic()
    granted = wait_for_slots(len(group), lambda: bool(batches_ready(1, room))) if group else 0
    if not granted:
        return []
    if time.monotonic() - begin < AT_ONCE_SECONDS:
        return group[:granted]
    return batches_ready(granted, room)


def _write_mock(group: Sequence[Ready]) -> None:
    with attempts.at_batches(group, stage=STAGE):
        written = set(_submitted(group, batches.submit_mock_many))
        messages.update_many(
            transactions.Settled(batch.id, batch.lane, batch.size) for batch in group if batch.id in written
        )


def _write(group: Sequence[Ready], chain: ChainClient, outlook: Outlook) -> None:
    """What is against chain, wallet or settings holds chain writing, and costs neither attempt nor nonce."""
    stored: list[Transaction] = []
    with attempts.at_batches(group, stage=STAGE):
        try:
            fit = outlook.fit(chain)
            stored = _submit(group[: fit.affordable], chain, fit.in_flight, outlook.used_below)
            outlook.signed(len(stored))
        except holding.OF_A_WALLET as error:
            holding.hold(error, signer=chain.signer_address)
        except holding.HOLDS as error:
            holding.hold(error)
    if stored:
        sending.send_in_order(chain, stored)
    else:  # another process may have taken the room that was believed to be there
        outlook.swept()


def _submit(group: Sequence[Ready], chain: ChainClient, in_flight: int, used_below: int) -> list[Transaction]:
    account = Account(chain.chain_id, chain.signer_address, chain.contract_address)
    fees = chain.fees()
    submit = partial(
        batches.submit_many,
        account=account,
        nonce_floor=0 if in_flight else _first_free_nonce(chain),
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, fees),
        max_in_flight=get_settings().blockchain_max_in_flight,
        used_below=used_below,
    )
    return _submitted(group, submit)


def _submitted(group: Sequence[Ready], submit: Callable[[Sequence[int]], list[T]]) -> list[T]:
    """What ``submit`` of all together returns; where something unforeseen is in the way, of each alone."""
    try:
        return submit([batch.id for batch in group])
    except PipelineError:
        raise
    except Exception:  # whose fault it is shows when each is tried alone
        if len(group) == 1:
            raise
        logger.warning("%d batches are written one by one", len(group), exc_info=True)
    return [done for batch in group for done in _submitted_alone(batch, submit)]


def _submitted_alone(batch: Ready, submit: Callable[[Sequence[int]], list[T]]) -> list[T]:
    """A bad one fails alone, and is tried again by itself."""
    try:
        with attempts.at_batches([batch], stage=STAGE):
            return submit([batch.id])
    except Retry as retry:
        messages.write(batch.lane, delay_ms=retry.delay)
    return []


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

"""The third stage: what the chain says of the transactions that wait for it.

One sweep for all of them, so that the width of the pipe is not the number of threads.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from pipeline import attempts, messages
from pipeline.chain.blocks import Block, Receipt
from pipeline.chain.client import ChainClient, chain_client
from pipeline.chain_writing import broadcast, ready
from pipeline.errors import TransactionReverted
from pipeline.ledger import transactions
from pipeline.ledger.attempts import FailedAttempt
from pipeline.ledger.leases import held
from pipeline.ledger.transactions import Mined
from pipeline.models import Transaction, TransactionState
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

#: A sweep that died holds up the next for no longer.
LEASE_SECONDS = 8.0

#: Seconds after which bytes that are in no block go out again.
RESEND_AFTER_SECONDS = 15.0

#: The same for bytes of which no node has said that it has them.
RESEND_UNSENT_AFTER_SECONDS = 3.0


def settle() -> None:
    """One sweep, unless another process has one under way; next to nothing when nothing waits."""
    if get_settings().blockchain_mock_enabled:
        return
    with held("settle", seconds=LEASE_SECONDS) as mine:
        if mine:
            _sweep()


def _sweep() -> None:
    settings = get_settings()
    if settings.blockchain_chain_id is None:
        return
    waiting = transactions.unsettled(settings.blockchain_chain_id)
    if not waiting:
        return
    chain = chain_client()
    view = _View.of(chain, waiting)
    for stored in waiting:
        _look_at(stored, view)
    if ready():
        messages.write("normal")


@dataclass(frozen=True, slots=True)
class _View:
    """The chain at one moment: its head, the last final height, receipts and their blocks."""

    chain: ChainClient
    head: int
    final: int
    receipts: dict[str, Receipt | None]
    blocks: dict[int, Block | None]

    @classmethod
    def of(cls, chain: ChainClient, waiting: list[Transaction]) -> _View:
        head = chain.head()
        receipts = chain.receipts([stored.hash for stored in waiting])
        heights = sorted({receipt.block_number for receipt in receipts.values() if receipt})
        return cls(chain, head.number, _final_height(chain, head.number), receipts, chain.blocks(heights))


def _final_height(chain: ChainClient, head: int) -> int:
    """The highest block whose transactions count as confirmed."""
    depth = get_settings().blockchain_confirmations
    if depth == "finalized":
        final = chain.finalized_number()
        return -1 if final is None else final
    return head - depth + 1


def _look_at(stored: Transaction, view: _View) -> None:
    receipt = view.receipts[stored.hash]
    if receipt is None:
        _not_mined(stored, view.chain)
        return
    block = view.blocks[receipt.block_number]
    if block is None or block.hash != receipt.block_hash:
        return  # a reorg under way between two answers: the next sweep sees where it ends
    if receipt.status == 0:
        _reverted(stored, receipt, view.chain)
        return
    _mined(stored, receipt, block, view)


def _not_mined(stored: Transaction, chain: ChainClient) -> None:
    if stored.state == TransactionState.MINED:
        logger.warning("a reorg took the block away", extra={"transaction_hash": stored.hash})
        transactions.record_unmined(stored.id)
    wait = RESEND_AFTER_SECONDS if stored.state == TransactionState.SENT else RESEND_UNSENT_AFTER_SECONDS
    if time.time() - (stored.sent_at or stored.created_at) > wait:
        broadcast(chain, stored)


def _reverted(stored: Transaction, receipt: Receipt, chain: ChainClient) -> None:
    if receipt.block_number > _final_height(chain, chain.head().number):
        return
    error = TransactionReverted(f"transaction {stored.hash} reverted: {chain.revert_reason(receipt)}")
    attempts.announce(FailedAttempt(None, transactions.revert(stored.id, error)))


def _mined(stored: Transaction, receipt: Receipt, block: Block, view: _View) -> None:
    transactions.record_mined(
        stored.id,
        Mined(
            block_number=receipt.block_number,
            block_hash=receipt.block_hash,
            block_time=float(block.timestamp),
            gas_used=receipt.gas_used,
            gas_price_wei=receipt.gas_price_wei,
            confirmations=view.head - receipt.block_number + 1,
        ),
    )
    lane = stored.batch.lane if stored.batch else "normal"
    if receipt.block_number <= view.final and transactions.settle(stored.batch_id):
        messages.update(stored.batch_id, lane)

"""A nonce was used: by a transaction of ours, in vain, or by somebody else's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import attempts, holding, incidents, messages, sending
from pipeline.chain.blocks import Receipt
from pipeline.chain.registry import Registry, RevertKind
from pipeline.errors import NonceConflict, NotAnIssuer, TransactionReverted
from pipeline.ledger import incidents as ledger
from pipeline.ledger import nonces, tallies, transactions
from pipeline.ledger.attempts import FailedAttempt
from pipeline.ledger.sql import chunks
from pipeline.ledger.transactions import Mined
from pipeline.ledger.under_way import Slot
from pipeline.models import Transaction
from pipeline.settings import get_settings
from pipeline.settlement.view import TROUBLES, View, passed_over

logger = logging.getLogger(__name__)

#: For so many seconds a nonce must be used without any receipt of ours: nodes lag, and disagree.
MISSING_SECONDS = 10.0

#: A batch that has reverted as often, though the same call would have succeeded, is given up.
MAX_REVERTS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A transaction in a block, with status 1, of a nonce of which no other was seen in one."""

    slot: Slot
    row: Transaction
    receipt: Receipt


def look(slots: Sequence[Slot], view: View) -> None:
    """Note what the chain says of these nonces: of most the same, which is noted of all together."""
    found = [one for slot in slots if (one := _found(slot, view)) is not None]
    for part in chunks(found):
        _record(part, view)
    plain = {id(one.slot) for one in found}
    for slot in slots:
        if id(slot) not in plain:
            with passed_over(slot):
                _look_at_one(slot, view)


def _found(slot: Slot, view: View) -> Found | None:
    for row in slot.transactions:
        receipt = view.receipt_in_chain(row.hash)
        if receipt is not None:
            other = slot.mined is not None and slot.mined.id != row.id
            return Found(slot, row, receipt) if receipt.status == 1 and not other else None
    return None


def _record(found: Sequence[Found], view: View) -> None:
    for one in found:
        _no_trouble_any_more(one.slot, view)
    anchors = [one.row.batch_id for one in found if one.receipt.block_number <= view.final]
    deep = [batch_id for batch_id in anchors if batch_id is not None]
    settled = transactions.record_mined_and_settle(
        {one.row.id: _mined(one.receipt, view) for one in found}, deep
    )
    for one in found:
        if one.row.batch_id is None:  # it fills a gap, and is not looked at again
            tallies.gas(one.receipt.gas_used, one.receipt.gas_price_wei)
    messages.update_many(settled)


def _look_at_one(slot: Slot, view: View) -> None:
    for row in slot.transactions:
        receipt = view.receipt_in_chain(row.hash)
        if receipt is not None:
            _in_block(slot, row, receipt, view)
            return
    mined = slot.mined
    if mined is not None:
        if slot.place is not None and view.is_gone(*slot.place):
            transactions.record_unmined(mined.id, slot.place[1])
    elif slot.nonce < _mined_nonce(slot, view):
        _nonce_used(slot, view)
    elif any(row.missing_since is not None for row in slot.transactions):
        nonces.mark_found(slot)


def _no_trouble_any_more(slot: Slot, view: View) -> None:
    for subject in view.troubled & {sending.subject(slot), sending.account(slot)}:
        for kind in TROUBLES:
            ledger.end(kind, subject)


def _mined_nonce(slot: Slot, view: View) -> int:
    return view.heads_of(slot.signer).mined_nonce


def _in_block(slot: Slot, row: Transaction, receipt: Receipt, view: View) -> None:
    _no_trouble_any_more(slot, view)
    if receipt.status == 0:
        _reverted(slot, row, receipt, view)
        if transactions.is_reverted(row.id):  # it was mined in vain, and is not looked at again
            tallies.gas(receipt.gas_used, receipt.gas_price_wei)
        return
    before = slot.mined
    if before is not None and before.block_hash is not None and before.id != row.id:
        transactions.record_unmined(before.id, before.block_hash)
    _record([Found(slot, row, receipt)], view)


def _mined(receipt: Receipt, view: View) -> Mined:
    block = view.blocks[receipt.block_number]
    assert block is not None  # noqa: S101 -- a receipt in the chain has its block
    return Mined(
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        block_time=float(block.timestamp),
        gas_used=receipt.gas_used,
        gas_price_wei=receipt.gas_price_wei,
        confirmations=view.confirmations(receipt.block_number),
    )


def _reverted(slot: Slot, row: Transaction, receipt: Receipt, view: View) -> None:
    """A receipt of status 0, once its block is deep: what it means depends on the contract's error."""
    if receipt.block_number > view.final:
        return
    batch = slot.batch
    if batch is None:
        transactions.record_reverted(row.id)
        return
    revert = view.chain.revert(receipt)
    if revert.kind is RevertKind.NOT_AN_ISSUER:
        error = NotAnIssuer(f"{slot.signer}: transaction {row.hash} reverted: {revert.reason}")
        holding.hold(error, signer=slot.signer)
        transactions.revert_and_write_again(row.id, batch.id, reason="NotAnIssuer")
        return
    if revert.kind is RevertKind.OVER and nonces.reverted_count(batch.id) < MAX_REVERTS:
        transactions.revert_and_write_again(row.id, batch.id, reason="TransactionReverted")
        return
    if revert.kind is RevertKind.ALREADY_ANCHORED and _is_ours(slot, row, view):
        return
    if not _is_beyond_the_watch(receipt.block_number, view):
        return
    failure = TransactionReverted(f"transaction {row.hash} reverted: {revert.reason}")
    attempts.announce(FailedAttempt(None, transactions.revert(row.id, failure)))


def _is_ours(slot: Slot, row: Transaction, view: View) -> bool:
    """Whether an earlier transaction of ours has anchored the root: then the batch is on the chain."""
    batch = slot.batch
    if batch is None or batch.merkle_root is None or batch.contract_address is None:
        return False
    # Where the batch was to go, whatever the settings name today.
    registry = Registry(view.chain.rpc, batch.contract_address)
    root = bytes.fromhex(batch.merkle_root[2:])
    receipt = _of_ours(batch.id, view)
    if receipt is None:
        anchor = registry.anchored_by(root)
        if anchor is None or anchor.issuer != slot.signer:
            return False
        hash_ = registry.anchoring_transaction(root)
        receipt = view.chain.receipts([hash_])[hash_] if hash_ else None
    if receipt is None:  # a reorg under way, or a node that has forgotten: the next sweep asks again
        logger.warning("the transaction that anchored root %s is not found", batch.merkle_root)
        return True
    view.read_blocks([receipt.block_number])
    if view.blocks[receipt.block_number] is None or receipt.block_number > view.final:
        return True
    mined = _mined(receipt, view)
    if transactions.settle_anchored(batch.id, receipt.transaction_hash, mined, reverted_id=row.id):
        messages.update(batch.id, batch.lane)
    return True


def _of_ours(batch_id: int, view: View) -> Receipt | None:
    """The receipt of what was signed for the batch, under whichever nonce and key, and has anchored it."""
    signed = view.chain.receipts(nonces.hashes_for(batch_id))
    return next((receipt for receipt in signed.values() if receipt and receipt.status == 1), None)


def _is_beyond_the_watch(number: int, view: View) -> bool:
    """`failed` is for good: a reorg could still let the transaction succeed in another block."""
    if view.heads.finalized is not None and number <= view.heads.finalized:
        return True
    return view.confirmations(number) > get_settings().blockchain_reorg_watch_blocks


def _nonce_used(slot: Slot, view: View) -> None:
    """The nonce is used, and no receipt is ours: it takes time and depth until that is believed."""
    since_seconds, since_block = nonces.mark_missing(slot, view.heads.head.number)
    if since_seconds < MISSING_SECONDS or view.final < since_block:
        return
    # With those that were given up: a reorg may have let one of them in again.
    stored = [row.hash for row in nonces.stored_for(slot.chain_id, slot.signer, slot.nonce)]
    if not view.chain.is_foreign(slot.signer, slot.nonce, stored):
        if any(view.chain.receipts([hash_ for hash_ in stored if hash_ not in slot.hashes]).values()):
            nonces.lose(slot)
        return
    error = NonceConflict(
        f"nonce {slot.nonce} of {slot.signer} was used by a transaction that is not ours: "
        "somebody else has the key, or the database was restored from a backup"
    )
    # First: a process that dies here has recorded it, and the next sweep does the rest.
    incidents.report(error, subject=sending.account(slot), level="fatal", over=True)
    nonces.lose(slot)
    _no_trouble_any_more(slot, view)

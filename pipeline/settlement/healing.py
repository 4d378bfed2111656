"""Bytes that no node has go out again, gaps are filled, and the lowest nonce is repriced when it is stuck."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from itertools import groupby

from pipeline import incidents, sending
from pipeline.chain.answers import AnswerKind
from pipeline.chain.fees import Fees
from pipeline.errors import ChainError, FeeCeiling, StuckTransaction, UntakenTransaction
from pipeline.ledger import nonces, transactions
from pipeline.ledger.under_way import Slot
from pipeline.models import Transaction, TransactionState
from pipeline.settlement import pace
from pipeline.settlement.view import View, passed_over

logger = logging.getLogger(__name__)

#: Seconds after which bytes go out again of which no node has said that it has them; which a node
#: does not count among the pending ones; and all others.
UNSENT_SECONDS, UNCOUNTED_SECONDS, RESEND_SECONDS = 3.0, 2.0, 60.0

#: Seconds after which operators are told that the lowest nonce is not mined.
STANDSTILL_SECONDS = 600.0

#: Blocks that go by without the lowest nonce before it is repriced.
STUCK_BLOCKS = 3

#: How long it is waited for the first block at all, if the chain's own are faster: in seconds. The other
#: is for that and for what is not counted, where blocks are made on demand.
FIRST_BLOCK_SECONDS, ON_DEMAND_SECONDS = 3.0, 0.3

#: Not longer, whatever blocks took so far: on a chain that was idle, an hour.
LAST_BLOCK_SECONDS = 60.0

#: Who says so of itself leaves out what it was handed at the wrong moment, whatever time its blocks take.
FORGETFUL = "anvil/"

#: Seconds for which a gap must be seen before it is filled: another process may be about to store it.
GAP_SECONDS = 6.0

#: Answers that say that the node has a transaction of that nonce.
HAS_IT = (AnswerKind.ACCEPTED, AnswerKind.ALREADY_KNOWN, AnswerKind.UNDERPRICED_REPLACEMENT)

#: Answers after which only something dearer helps.
TOO_CHEAP = (AnswerKind.REPRICE, AnswerKind.UNDERPRICED_REPLACEMENT)

#: Since when, by signer and nonce, nothing is there to be mined next.
_gaps: dict[tuple[str, int], float] = {}

#: The nonce of each signer that is to be mined next, since when, and since which block.
_lowest: dict[str, tuple[int, float, int]] = {}


def heal(view: View) -> None:
    """See to it that a node has everything that is to be mined, each signer's in the order of its nonces."""
    for _, slots in groupby(view.slots, lambda slot: slot.signer):
        waiting = [slot for slot in slots if _waits(slot, view)]
        if not waiting:
            continue
        _note_head(waiting, view)
        _note_lowest(waiting[0], view)
        with passed_over(waiting[0]):
            _fill_gap(waiting[0], view)
            _tell_of_standstill(waiting[0], view)
            replaced = _is_stuck(waiting[0], view) and _replaced(waiting[0], view)
            _send_again(waiting[1:] if replaced else waiting, view)


def _waits(slot: Slot, view: View) -> bool:
    return (
        slot.nonce >= view.heads_of(slot.signer).mined_nonce
        and not any(view.receipt_in_chain(hash_) for hash_ in slot.hashes)
        and (slot.place is None or view.is_gone(*slot.place))
    )


def _note_lowest(lowest: Slot, view: View) -> None:
    """It is its turn from now on: what it has waited for before was for those before it."""
    if _lowest.get(lowest.signer, (None,))[0] != lowest.nonce:
        _lowest[lowest.signer] = (lowest.nonce, time.monotonic(), view.heads.head.number)


def _tell_of_standstill(lowest: Slot, view: View) -> None:
    """Whatever the reason: nothing is mined, and nobody has been told of it."""
    now = time.monotonic()
    since = _lowest[lowest.signer][1]
    if now - since > STANDSTILL_SECONDS and sending.subject(lowest) not in view.troubled:
        answer = lowest.current.answer or "nothing"
        _tell(lowest, f"not mined for {(now - since) / 60:.0f} minutes; the node said: {answer}")


def _note_head(waiting: Iterable[Slot], view: View) -> None:
    new = [slot.current.id for slot in waiting if slot.current.sent_block is None and _is_answered(slot)]
    if new:
        transactions.record_first_sight(new, view.heads.head.number)


def _is_answered(slot: Slot) -> bool:
    """A node has it, or has another one of its nonce that it will not give up for this one."""
    answer = slot.current.answer or ""
    refused = answer.startswith(AnswerKind.UNDERPRICED_REPLACEMENT)
    return slot.current.state == TransactionState.SENT or refused


def _send_again(waiting: list[Slot], view: View) -> None:
    due = [slot for slot in waiting if _is_due(slot, view)]
    kinds = sending.send_many(view.chain, [slot.current for slot in due])
    for slot, kind in zip(due[:1], kinds, strict=False):
        lowest = slot.nonce == view.heads_of(slot.signer).mined_nonce
        if lowest and _has_to_pay_more(kind, slot, view):
            _replaced(slot, view)  # the others may do as they are once it is mined


def _is_due(slot: Slot, view: View) -> bool:
    row = slot.current
    age = time.time() - (row.created_at if row.sent_at is None else row.sent_at)
    if row.state == TransactionState.SIGNED:
        return age > UNSENT_SECONDS
    counted = slot.nonce < view.heads_of(slot.signer).pending_nonce
    return age > (RESEND_SECONDS if counted else _patience(UNCOUNTED_SECONDS))


def _has_to_pay_more(kind: AnswerKind, slot: Slot, view: View) -> bool:
    if kind is AnswerKind.REPRICE:
        return True
    # The node has another transaction of that nonce: one of ours will do.
    return kind is AnswerKind.UNDERPRICED_REPLACEMENT and not any(view.chain.knows(slot.hashes).values())


def _replaced(slot: Slot, view: View) -> bool:
    """Whether something dearer has gone out in its place: the bytes that were seen are outdated then."""
    if slot.signer == view.chain.signer_address:
        return _reprice(slot, view)
    _tell(slot, "it is not mined, and can be made dearer only with that key: an earlier one")
    return False


def _is_stuck(slot: Slot, view: View) -> bool:
    """The lowest nonce is in the pool, and blocks go by without it.

    Not every node counts its pool: one that has taken the bytes will do.
    """
    heads, sent_block = view.heads_of(slot.signer), slot.current.sent_block
    if slot.nonce != heads.mined_nonce or sent_block is None:
        return False
    answer = slot.current.answer or ""
    in_pool = heads.pending_nonce > slot.nonce or answer.startswith(HAS_IT)
    since_block = max(sent_block, _lowest[slot.signer][2])
    return in_pool and (heads.head.number - since_block >= STUCK_BLOCKS or _is_forgotten(slot, view))


def _is_forgotten(slot: Slot, view: View) -> bool:
    """The node has it and does not count it as pending, and no block comes that should have come.

    What anvil is handed while the nonce before is being mined may wait in its pool for that one for ever.
    Something dearer is looked at anew. Once is enough, and a node that counts no pool costs no more. How long
    a block takes is not known at first, or was an idle hour: of anvil itself it need not be.
    """
    known = (slot.current.answer or "").startswith(AnswerKind.ALREADY_KNOWN)
    counted = view.heads_of(slot.signer).pending_nonce > slot.nonce
    if counted or not known or len(slot.transactions) > 1:
        return False
    _, since, since_block = _lowest[slot.signer]
    waits_seconds = time.monotonic() - since
    if view.heads.head.number != since_block or waits_seconds <= ON_DEMAND_SECONDS:
        return False
    blocks_seconds = min(STUCK_BLOCKS * pace.block_seconds(), LAST_BLOCK_SECONDS)
    if waits_seconds > max(_patience(FIRST_BLOCK_SECONDS), blocks_seconds):
        return True
    return view.chain.client_version().startswith(FORGETFUL)


def _patience(seconds: float) -> float:
    return ON_DEMAND_SECONDS if pace.comes_on_demand() else seconds


def _tell(slot: Slot, what: str, kind: type[ChainError] = UntakenTransaction) -> None:
    incidents.report(kind(f"nonce {slot.nonce} of {slot.signer}: {what}"), subject=sending.subject(slot))


def _reprice(slot: Slot, view: View) -> bool:
    """Sign the slot's work once more for the same nonce, at least an eighth dearer, and send that.

    False at the ceiling, and when another sweep was first.
    """
    try:
        fees = view.chain.replacement_fees(_fees_of(slot.current))
    except FeeCeiling as error:
        _tell(slot, error.message, StuckTransaction)
        return False
    signed = _sign(slot, view, fees)
    stored = nonces.replace(slot, lambda: signed)
    if stored is None:
        return False
    logger.warning("transaction replaced", extra={"transaction_hash": stored.hash, "nonce": slot.nonce})
    sending.send(view.chain, stored)
    return True


def _sign(slot: Slot, view: View, fees: Fees) -> nonces.Signed:
    if slot.batch is None:
        return view.chain.prepare_filler(slot.nonce, fees)
    assert slot.batch.merkle_root is not None  # noqa: S101 -- a submitted batch has one
    root = bytes.fromhex(slot.batch.merkle_root[2:])
    return view.chain.prepare_anchor(
        root, slot.nonce, fees, to=slot.batch.contract_address, gas_limit=slot.current.gas_limit
    )


def _fees_of(row: Transaction) -> Fees:
    legacy = not row.raw_transaction.startswith("0x02")  # EIP-2718: type 2 is EIP-1559
    return Fees(int(row.max_fee_wei), int(row.tip_wei), legacy=legacy)


def _fill_gap(lowest: Slot, view: View) -> None:
    """Nothing of ours is at the nonce that the chain waits for, nor in the node's pool."""
    heads = view.heads_of(lowest.signer)
    first = heads.mined_nonce
    if lowest.nonce <= first or heads.pending_nonce > first:
        _gaps.pop((lowest.signer, first), None)
        return
    since = _gaps.setdefault((lowest.signer, first), time.monotonic())
    if time.monotonic() - since < GAP_SECONDS:
        return
    if lowest.signer != view.chain.signer_address:
        _tell(lowest, f"nothing is there for nonce {first}, and only that key can fill it: an earlier one")
        return
    for nonce in range(first, lowest.nonce):
        _fill(lowest, nonce, view)


def _fill(lowest: Slot, nonce: int, view: View) -> None:
    stored = nonces.stored_for(lowest.chain_id, lowest.signer, nonce)
    anchors = [row for row in stored if row.is_live_anchor]
    if anchors:  # it was in the chain: this node has an older state, which the watch may not believe yet
        sending.send(view.chain, anchors[-1])
        return
    if stored and sending.send(view.chain, stored[-1]) not in TOO_CHEAP:
        return
    try:
        fees = view.chain.replacement_fees(_fees_of(stored[-1])) if stored else view.chain.fees()
    except FeeCeiling as error:
        _tell(lowest, f"nothing is there for nonce {nonce}: {error.message}", StuckTransaction)
        return
    signed = view.chain.prepare_filler(nonce, fees)
    known = [row.id for row in stored]
    filler = nonces.fill(lowest.chain_id, lowest.signer, nonce, lambda: signed, known=known)
    if filler is not None:
        logger.warning("a gap is filled", extra={"transaction_hash": filler.hash, "nonce": nonce})
        sending.send(view.chain, filler)

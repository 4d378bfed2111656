"""Confirmed blocks are compared until they are final; what a reorg takes away is pending again."""

from __future__ import annotations

import logging

from pipeline import events, incidents
from pipeline.errors import FinalBlockRemoved
from pipeline.ledger import finality
from pipeline.ledger.finality import Place
from pipeline.settings import get_settings
from pipeline.settlement.view import View

logger = logging.getLogger(__name__)

#: How many of the final batches are looked through when one of them is gone.
FINAL_BATCHES = 500


def look(view: View, watched: list[Place]) -> None:
    """Compare the blocks of ``watched`` batches, and the newest final one's, with the chain's."""
    if not view.moved:
        return
    for place in watched:
        if view.is_gone(place.block_number, place.block_hash):
            logger.warning(
                "a reorg took the block of a confirmed batch away", extra={"batch_id": place.batch_id}
            )
            finality.unconfirm(place)
            events.publish()
    finality.mark_final([place.batch_id for place in watched if _is_final(place, view)])
    _look_at_final_ones(view)


def _is_final(place: Place, view: View) -> bool:
    block = view.blocks.get(place.block_number)
    if block is None or block.hash != place.block_hash:
        return False
    if view.heads.finalized is not None and place.block_number <= view.heads.finalized:
        return True
    return view.confirmations(place.block_number) > get_settings().blockchain_reorg_watch_blocks


def _look_at_final_ones(view: View) -> None:
    """A final block that is gone: the node's word or our depth was not worth it."""
    newest = finality.newest_final(view.chain_id, 1)
    if not _gone(newest, view):
        return
    gone = _gone(finality.newest_final(view.chain_id, FINAL_BATCHES), view)
    lowest = min(gone, key=lambda place: place.block_number)
    error = FinalBlockRemoved(
        f"block {lowest.block_number} ({lowest.block_hash}) was final and is not in the chain any more: "
        f"{len(gone)} batches are written again"
    )
    # First: a process that dies here has recorded it, and the next sweep does the rest.
    incidents.report(error, subject=f"{view.chain_id}:{lowest.block_hash}", level="fatal", over=True)
    for place in gone:
        finality.unconfirm(place)
        events.publish()


def _gone(places: list[Place], view: View) -> list[Place]:
    view.read_blocks([place.block_number for place in places])
    # What is above the head is not called removed: another block has to be seen in its place.
    return [
        place
        for place in places
        if place.block_number <= view.heads.head.number and view.is_gone(place.block_number, place.block_hash)
    ]

"""The chain at one moment, as far as a sweep needs it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.chain.blocks import Block, BlockReceiptsUnsupported, Heads, Receipt
from pipeline.chain.client import ChainClient
from pipeline.chain.rpc import RpcError
from pipeline.errors import (
    ChainError,
    NodeRejected,
    NodeUnreachable,
    StuckTransaction,
    UntakenTransaction,
)
from pipeline.ledger import chains, incidents
from pipeline.ledger.finality import Place
from pipeline.ledger.under_way import Slot
from pipeline.settings import get_settings
from pipeline.settlement.lineage import Lineage

logger = logging.getLogger(__name__)

#: With more unmined transactions than this, whole blocks of receipts are read instead of each one's.
SINGLE_RECEIPTS = 32

#: More new blocks than this are not read one by one.
MAX_NEW_BLOCKS = 32

#: How often receipts that must be there are asked for again.
TRIES = 2

#: For so many seconds a head must stand still below a block that was seen: a node that was restarted
#: from an older state, and not one that lags.
LOWER_SECONDS = 60.0

#: What operators are told of a nonce, and is over once the nonce is used.
TROUBLES = (StuckTransaction.__name__, UntakenTransaction.__name__, NodeRejected.__name__)

#: Of how many of the lowest nonces the receipts are asked for, when whole blocks were read.
LOWEST = 16


#: What this process knows of each chain.
_lineages: defaultdict[int, Lineage] = defaultdict(Lineage)


@contextmanager
def passed_over(slot: Slot) -> Iterator[None]:
    """What the node can not tell of one nonce must not keep the others waiting: the next sweep asks again."""
    try:
        yield
    except NodeUnreachable:
        raise
    except ChainError as exc:
        logger.warning("nonce %d waits: %s", slot.nonce, exc.message, extra={"nonce": slot.nonce})


@dataclass(slots=True)
class View:
    """Heads, receipts, and the canonical blocks at the heights that matter."""

    chain: ChainClient
    chain_id: int
    heads: Heads
    #: The highest block whose transactions count as confirmed.
    final: int
    slots: list[Slot]
    receipts: dict[str, Receipt]
    blocks: dict[int, Block | None] = field(default_factory=dict)
    #: Whether the head is another one than in the last sweep.
    moved: bool = True
    #: Whether the head has been below a block with something of ours for long enough to be believed.
    lower: bool = False
    #: The nonces about which operators were told, by `sending.subject`.
    troubled: frozenset[str] = frozenset()
    _others: dict[str, Heads] = field(default_factory=dict)

    @classmethod
    def of(
        cls, chain: ChainClient, chain_id: int, heads: Heads, slots: list[Slot], watched: Iterable[Place]
    ) -> View:
        """Ask for what ``slots`` and ``watched`` batches wait for."""
        watched = list(watched)
        seen = chains.seen_block(chain_id)
        chain.new_head(heads.head.number)
        of_slots = {place[0] for slot in slots if (place := slot.place) is not None}
        of_watched = {place.block_number for place in watched}
        lower = max(of_slots | of_watched, default=0) > heads.head.number
        stands_seconds = chains.lower_for(chain_id, heads.head.number if lower else None)
        moved = lower or seen is None or seen[1] != heads.head.hash
        view = cls(
            chain,
            chain_id,
            heads,
            _final_height(heads),
            slots,
            {},
            moved=moved,
            lower=stands_seconds > LOWER_SECONDS and not chain.is_syncing(),
            troubled=incidents.subjects_of(*TROUBLES),
        )
        needed = of_slots | of_watched if moved else of_slots
        lineage = _lineages[chain_id]
        # What was below the last head has not to be read, if what is new stands on that.
        heights = {height for height in needed if height not in lineage}
        used = [slot for slot in slots if slot.nonce < view.heads_of(slot.signer).mined_nonce]
        if moved or used:
            heights |= _new_heights(seen, heads)
            view._read_receipts(slots if moved else used, seen, heights)
            view._ask_again(used, heights)
        else:
            view.read_blocks(heights)
        view.read_blocks({receipt.block_number for receipt in view.receipts.values()})
        view._fill_in(lineage.below(heads.head, view.blocks))
        view.read_blocks(needed)
        return view

    def heads_of(self, signer: str) -> Heads:
        """The heads with the nonces of that signer: an earlier key may still have something to be mined."""
        if signer == self.chain.signer_address:
            return self.heads
        if signer not in self._others:
            self._others[signer] = self.chain.heads(signer)
        return self._others[signer]

    def read_blocks(self, heights: Iterable[int]) -> None:
        """Learn the canonical blocks at these heights."""
        unknown = sorted(height for height in set(heights) if self.blocks.get(height) is None)
        if unknown:
            self.blocks |= self.chain.blocks(unknown)

    def _fill_in(self, proven: Mapping[int, Block]) -> None:
        """What was not read, and is known all the same."""
        for number, block in proven.items():
            if self.blocks.get(number) is None:
                self.blocks[number] = block

    def receipt_in_chain(self, hash_: str) -> Receipt | None:
        """The receipt of a transaction in a block that is canonical."""
        receipt = self.receipts.get(hash_)
        if receipt is None:
            return None
        block = self.blocks.get(receipt.block_number)
        # Otherwise a reorg is under way between two answers: the next sweep sees where it ends.
        return receipt if block is not None and block.hash == receipt.block_hash else None

    def is_gone(self, number: int, hash_: str) -> bool:
        """Whether another block than this is canonical at its height, or none for long enough.

        A head that is lower tells nothing at once: nodes lag, and take turns.
        """
        if number > self.heads.head.number:
            return self.lower
        block = self.blocks.get(number)
        return block is not None and block.hash != hash_

    def confirmations(self, number: int) -> int:
        """How many blocks there are from that one to the head, both counted."""
        return self.heads.head.number - number + 1

    def _read_receipts(self, slots: list[Slot], seen: tuple[int, str] | None, heights: set[int]) -> None:
        hashes = {hash_ for slot in slots for hash_ in slot.hashes}
        blocks = self._new_blocks(seen) if len(hashes) > SINGLE_RECEIPTS else None
        if blocks is None:
            self._read_single_receipts(slots, heights)
            return
        self.receipts = {hash_: receipt for hash_, receipt in blocks.items() if hash_ in hashes}
        left = [slot for slot in slots if not any(hash_ in self.receipts for hash_ in slot.hashes)]
        mined = [slot for slot in left if slot.mined is not None]
        self._read_single_receipts(mined + [slot for slot in left if slot.mined is None][:LOWEST], heights)

    def _new_blocks(self, seen: tuple[int, str] | None) -> dict[str, Receipt] | None:
        """All receipts of the blocks since the last sweep; None when they can not be told so."""
        if seen is None:
            return None
        number, hash_ = seen
        new = range(number + 1, self.heads.head.number + 1)
        if not 0 < len(new) <= MAX_NEW_BLOCKS:
            return None
        try:
            found = self.chain.block_receipts(list(new))
        except (BlockReceiptsUnsupported, RpcError):  # too large an answer, for instance
            return None
        self.read_blocks([number, *new])
        before = self.blocks[number]
        if before is None or before.hash != hash_ or None in found.values():
            return None
        return {
            receipt.transaction_hash: receipt for receipts in found.values() for receipt in receipts or ()
        }

    def _ask_again(self, used: list[Slot], heights: set[int]) -> None:
        """One node says that these nonces are used; one that lags may have answered for their receipts."""
        for _ in range(TRIES):
            left = [slot for slot in used if not any(map(self.receipt_in_chain, slot.hashes))]
            if not left:
                return
            self._read_single_receipts(left, heights)

    def _read_single_receipts(self, slots: Iterable[Slot], heights: set[int]) -> None:
        """Together with the blocks that they may be in, so that one node has to agree with itself."""
        hashes = [hash_ for slot in slots for hash_ in slot.hashes]
        unknown = sorted(height for height in heights if self.blocks.get(height) is None)
        if not hashes and not unknown:
            return
        receipts, blocks = self.chain.receipts_and_blocks(hashes, unknown)
        self.receipts |= {hash_: receipt for hash_, receipt in receipts.items() if receipt is not None}
        self.blocks |= blocks


def _new_heights(seen: tuple[int, str] | None, heads: Heads) -> set[int]:
    """Those of the newest blocks, in which what was not mined so far may be."""
    head = heads.head.number
    lowest = head - MAX_NEW_BLOCKS + 1 if seen is None else max(seen[0], head - MAX_NEW_BLOCKS + 1)
    return set(range(max(min(lowest, head), 0), head + 1))


def _final_height(heads: Heads) -> int:
    depth = get_settings().blockchain_confirmations
    if depth == "finalized":
        return -1 if heads.finalized is None else heads.finalized
    return heads.head.number - depth + 1

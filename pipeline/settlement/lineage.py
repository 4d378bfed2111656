"""Blocks of which it is proven that they are in the chain below its head: each names its parent by hash.

A block's hash covers its parent's, and so all blocks before it. Whoever has seen each block between an
older one and the head, every one the parent of the next, need not ask for the older one again: as long as
the head stands on it, nothing below has changed, whichever node says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.chain.blocks import Block

#: So many blocks are remembered: more than are watched by default, with what comes between two sweeps.
KEPT = 512


class Lineage:
    """One chain's, as far as this process has seen it. Threads may share it: the last that looked decides."""

    def __init__(self) -> None:
        self._blocks: Mapping[int, Block] = {}

    def __contains__(self, number: int) -> bool:
        """Whether the block there was known below the last head; below the next it may be another."""
        return number in self._blocks

    def below(self, head: Block, seen: Mapping[int, Block | None]) -> Mapping[int, Block]:
        """The blocks that ``head`` stands on, itself among them, as far as they are known or ``seen``."""
        known, found, block = self._blocks, {head.number: head}, head
        while known.get(block.number) != block and (parent := _parent(block, known, seen)) is not None:
            found[parent.number] = block = parent
        if known.get(block.number) == block:
            lowest = head.number - KEPT
            found |= {number: old for number, old in known.items() if lowest < number < block.number}
        self._blocks = found
        return found


def _parent(block: Block, *places: Mapping[int, Block | None]) -> Block | None:
    """The block below, where one of the hash that it names is in one of the places."""
    candidates = (place.get(block.number - 1) for place in places)
    return next(
        (one for one in candidates if one is not None and one.hash and one.hash == block.parent_hash), None
    )

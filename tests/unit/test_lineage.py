"""Promise: a block counts as one of the chain only if the hashes of parents lead from the head to it."""

from __future__ import annotations

from pipeline.chain.blocks import Block
from pipeline.settlement.lineage import KEPT, Lineage


def block(number: int, fork: str = "a", parent: str = "a") -> Block:
    """One of a fork, on one of another."""
    return Block(number, f"{fork}{number}", number, f"{parent}{number - 1}")


def blocks(first: int, last: int, fork: str = "a") -> dict[int, Block | None]:
    """Of one fork, the first on `a`."""
    numbers = range(first, last + 1)
    return {number: block(number, fork, "a" if number == first else fork) for number in numbers}


def known(lineage: Lineage, head: Block, seen: dict[int, Block | None] | None = None) -> list[str]:
    """The hashes of what the head stands on, the lowest first."""
    found = lineage.below(head, seen or {})
    return [found[number].hash for number in sorted(found)]


def test_what_was_below_stays_below() -> None:
    """Each sweep sees its new blocks alone."""
    lineage = Lineage()
    assert known(lineage, block(3), blocks(1, 3)) == ["a1", "a2", "a3"]
    assert known(lineage, block(3)) == ["a1", "a2", "a3"]
    assert known(lineage, block(5), blocks(4, 5)) == ["a1", "a2", "a3", "a4", "a5"]
    assert 1 in lineage
    assert 6 not in lineage


def test_a_gap_proves_nothing() -> None:
    """A block between was not seen, or the node did not tell of it: what is below may be another chain's."""
    lineage = Lineage()
    known(lineage, block(3), blocks(1, 3))
    assert known(lineage, block(6), {5: block(5), 4: None}) == ["a5", "a6"]
    assert 3 not in lineage


def test_a_reorg() -> None:
    """What is above the fork is forgotten, what is below stays."""
    lineage = Lineage()
    known(lineage, block(5), blocks(1, 5))
    assert known(lineage, block(5, "b", "b"), blocks(4, 5, "b")) == ["a1", "a2", "a3", "b4", "b5"]


def test_another_chain_of_the_same_height() -> None:
    """Nothing of the one before counts, whatever the heights."""
    lineage = Lineage()
    known(lineage, block(5), blocks(1, 5))
    assert known(lineage, block(5, "c", "c")) == ["c5"]


def test_a_node_that_lags() -> None:
    """An older head stands on what is below it, and the next one is seen anew."""
    lineage = Lineage()
    known(lineage, block(5), blocks(1, 5))
    assert known(lineage, block(3)) == ["a1", "a2", "a3"]
    assert known(lineage, block(5)) == ["a5"]


def test_a_node_that_tells_no_parents() -> None:
    """Only the head is known."""
    head, below = Block(2, "a2", 2), Block(1, "", 1)
    assert known(Lineage(), head, {1: Block(1, "a1", 1)}) == ["a2"]
    assert known(Lineage(), head, {1: below}) == ["a2"]


def test_it_does_not_grow() -> None:
    """The oldest are forgotten."""
    lineage = Lineage()
    for number in range(1, 2 * KEPT):
        found = lineage.below(block(number), {number: block(number)})
    assert len(found) == KEPT

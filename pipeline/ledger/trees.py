"""The nodes of each batch's Merkle tree, stored once: a proof is a few slices of them.

Of a batch that was closed before there were any, the tree is made from its members' leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

import peewee as pw

from pipeline.database import is_sqlite
from pipeline.ledger.sql import chunks, rows
from pipeline.merkle import NODE_BYTES, MerkleTree, siblings_of
from pipeline.models import Batch, Tree, Write

#: Where the leaves begin, in the nodes of a tree, from 1.
LEAVES_BEGIN = f"(length(nodes) / {2 * NODE_BYTES}) * {NODE_BYTES} + 1"


def keep(trees: Mapping[int, MerkleTree]) -> None:
    """Store the trees of batches that are closed; a single leaf is its own root, and needs none."""
    new = [
        {"batch": batch_id, "nodes": b"".join(tree.nodes)}
        for batch_id, tree in trees.items()
        if len(tree.nodes) > 1
    ]
    for part in chunks(new):
        Tree.insert_many(part).execute()


def proof(batch: Batch, leaf: bytes) -> list[bytes] | None:
    """The siblings from ``leaf`` to the root of a submitted batch: two reads of log2(size) nodes.

    0.3 ms for a batch of 1,000, 0.5 ms for one of 10,000. None where they are not stored: see `load`.
    """
    if batch.merkle_root == "0x" + leaf.hex():
        return []
    place = _place(batch.id, leaf)
    return None if place is None else _nodes(batch.id, siblings_of(place))


def load(batch_id: int) -> MerkleTree:
    """The whole tree of a submitted batch: for who needs many of its proofs."""
    stored = rows(Tree.select(Tree.nodes).where(Tree.batch == batch_id))
    if stored:
        return MerkleTree.from_nodes(bytes(stored[0][0]))
    return MerkleTree(
        [bytes(row[0]) for row in rows(Write.select(Write.leaf).where(Write.batch == batch_id))]
    )


def _place(batch_id: int, leaf: bytes) -> int | None:
    """The leaf's number among the nodes; None where no tree is stored, or the leaf is not in it."""
    query = Tree.select(pw.SQL(LEAVES_BEGIN), _found(leaf)).where(Tree.batch == batch_id)
    for begin, offset in rows(query):
        place, rest = divmod(begin - 1 + offset - 1, NODE_BYTES)
        if offset and not rest:
            return int(place)
    return None


def _found(leaf: bytes) -> pw.Node:
    """Where the leaf is among the leaves, in bytes from 1; 0 where it is not."""
    leaves, sought = pw.SQL(f"substr(nodes, {LEAVES_BEGIN})"), pw.Value(leaf, converter=False)
    if is_sqlite():
        return pw.fn.instr(leaves, sought)
    return pw.fn.position(pw.NodeList((sought, pw.SQL("IN"), leaves)))


def _nodes(batch_id: int, places: list[int]) -> list[bytes]:
    slices = [pw.fn.substr(Tree.nodes, NODE_BYTES * place + 1, NODE_BYTES) for place in places]
    [found] = rows(Tree.select(*slices).where(Tree.batch == batch_id))
    return [bytes(node) for node in found]

"""Leaves, trees and proofs: OpenZeppelin's ``standard-v1`` (npm ``@openzeppelin/merkle-tree``).

A leaf is keccak256(keccak256(abi.encode(string, bytes32, string, bytes32))); hashed twice, it
can not be an inner node. The tree is an array of 2n - 1 nodes: the root first, the leaves, sorted,
from the end; node i is keccak256 of its children 2i + 1 and 2i + 2, the smaller one first. A
proof is the siblings from the leaf up; a single leaf is the root, its proof is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Self

try:
    # 0.9 µs for 64 bytes; pycryptodome, which comes with web3, takes 6 µs. In a batch of 10,000
    # that is 0.1 s, within a lock. safe-pysha3 has wheels for Linux only.
    from _pysha3 import keccak_256 as _keccak_256  # type: ignore[import-not-found]
except ImportError:
    from Crypto.Hash import keccak as _pycryptodome

    def keccak256(data: bytes) -> bytes:
        """Keccak-256, as Ethereum uses it: not NIST's SHA3-256."""
        return _pycryptodome.new(data=data, digest_bits=256).digest()
else:

    def keccak256(data: bytes) -> bytes:
        """Keccak-256, as Ethereum uses it: not NIST's SHA3-256."""
        digest: bytes = _keccak_256(data).digest()
        return digest


#: Bytes of a node, leaves and root included.
NODE_BYTES = 32

#: What a leaf is made of: credential id, data hash, CID ("" for none), salt.
LEAF_ENCODING = ("string", "bytes32", "string", "bytes32")

#: Where the first string begins, in the ABI: after four words.
_FIRST_OFFSET = (4 * 32).to_bytes(32)


def leaf_hash(credential_id: str, data_hash: bytes, ipfs_cid: str, salt: bytes) -> bytes:
    """The leaf of a credential; ``data_hash`` and ``salt`` are 32 bytes, ``ipfs_cid`` "" for none."""
    if len(data_hash) != 32 or len(salt) != 32:
        raise ValueError(f"data hash and salt must have 32 bytes, not {len(data_hash)} and {len(salt)}")
    first = _abi_string(credential_id)
    second_offset = (4 * 32 + len(first)).to_bytes(32)
    encoded = b"".join((_FIRST_OFFSET, data_hash, second_offset, salt, first, _abi_string(ipfs_cid)))
    return keccak256(keccak256(encoded))


class MerkleTree:
    """A tree over 1 to N leaves of 32 bytes, in any order, none of them twice."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        ordered = sorted(leaves)
        _check_leaves(ordered)
        nodes = [b""] * (len(ordered) - 1) + ordered[::-1]
        for number in range(len(ordered) - 2, -1, -1):
            nodes[number] = _node(nodes[2 * number + 1], nodes[2 * number + 2])
        self._take(nodes)

    def _take(self, nodes: Sequence[bytes]) -> None:
        #: As ``standard-v1`` dumps them: the root first, the leaves from the end.
        self.nodes = tuple(nodes)
        self._places = {nodes[place]: place for place in range(len(nodes) // 2, len(nodes))}

    @classmethod
    def from_nodes(cls, nodes: bytes) -> Self:
        """The tree with these nodes, one after the other: those of a tree that was made before."""
        tree = cls.__new__(cls)
        tree._take([nodes[start : start + NODE_BYTES] for start in range(0, len(nodes), NODE_BYTES)])
        return tree

    @property
    def root(self) -> bytes:
        """What goes on the chain: 32 bytes."""
        return self.nodes[0]

    def place(self, leaf: bytes) -> int:
        """The leaf's number among the nodes. Raises `KeyError` when it is not in the tree."""
        return self._places[leaf]

    def proof(self, leaf: bytes) -> list[bytes]:
        """The siblings from ``leaf`` up to the root. Raises `KeyError` when it is not in the tree."""
        return [self.nodes[place] for place in siblings_of(self.place(leaf))]


def siblings_of(place: int) -> list[int]:
    """The places, among a tree's nodes, of what proves the node at ``place``, from there up."""
    siblings: list[int] = []
    while place:
        # Left children have odd places.
        siblings.append(place + 1 if place % 2 else place - 1)
        place = (place - 1) // 2
    return siblings


def root_of(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root of the tree in which ``proof`` leads up from ``leaf``."""
    node = leaf
    for sibling in proof:
        node = _node(node, sibling)
    return node


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` leads from ``leaf`` to ``root``; all parts are 32 bytes.

    It can not tell a leaf from an inner node: whoever has to, makes the leaf with `leaf_hash`.
    """
    return all(len(part) == 32 for part in (root, leaf, *proof)) and root_of(leaf, proof) == root


def _check_leaves(ordered: Sequence[bytes]) -> None:
    if not ordered:
        raise ValueError("a Merkle tree needs at least one leaf")
    if any(len(leaf) != 32 for leaf in ordered):
        raise ValueError("a leaf has 32 bytes")
    for leaf, following in pairwise(ordered):
        if leaf == following:
            raise ValueError(f"the leaf 0x{leaf.hex()} is in the tree twice")


def _node(one: bytes, other: bytes) -> bytes:
    return keccak256(one + other if one < other else other + one)


def _abi_string(text: str) -> bytes:
    """Length, and the UTF-8 bytes filled up to whole words (Solidity ABI, dynamic types)."""
    data = text.encode()
    return len(data).to_bytes(32) + data + bytes(-len(data) % 32)

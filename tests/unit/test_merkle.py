"""Promise: leaves, trees and proofs are OpenZeppelin's standard-v1, so that anyone's tools check them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from Crypto.Hash import keccak
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.merkle import LEAF_ENCODING, MerkleTree, keccak256, leaf_hash, root_of, verify

#: Made by npm's @openzeppelin/merkle-tree 1.0.8 with the script of the same name beside it.
VECTORS = json.loads((Path(__file__).parent / "fixtures" / "merkle_vectors.json").read_text())["trees"]

BYTES32 = st.binary(min_size=32, max_size=32)
LEAVES = st.sets(BYTES32, min_size=1, max_size=40).map(list)


def from_hex(text: str) -> bytes:
    """Bytes of 0x and hex digits."""
    return bytes.fromhex(text.removeprefix("0x"))


def leaf_of(values: list[str]) -> bytes:
    """The leaf of a vector's values."""
    credential_id, data_hash, ipfs_cid, salt = values
    return leaf_hash(credential_id, from_hex(data_hash), ipfs_cid, from_hex(salt))


@pytest.mark.parametrize("data", [b"", b"abc", bytes(64), bytes(135), bytes(136), bytes(137), bytes(1000)])
def test_keccak_is_ethereums(data: bytes) -> None:
    """Not NIST's SHA3-256; the same as pycryptodome's around the block size."""
    assert keccak256(data) == keccak.new(data=data, digest_bits=256).digest()
    assert keccak256(b"").hex().startswith("c5d2460186f7233c927e7db2dcc703c0")


def test_keccak_without_the_fast_library() -> None:
    """Where safe-pysha3 has no wheel, pycryptodome gives the same."""
    code = (
        "import sys; sys.modules['_pysha3'] = None\n"
        "from pipeline.merkle import keccak256\n"
        "print('Crypto.Hash.keccak' in sys.modules, keccak256(b'abc').hex())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", keccak256(b"abc").hex()]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), BYTES32, st.text("abQmz123", max_size=70), BYTES32)
def test_leaf_is_hashed_twice_over_the_abi_encoding(
    credential_id: str, data_hash: bytes, ipfs_cid: str, salt: bytes
) -> None:
    """Against eth_abi, with strings of any length."""
    encoded = encode(LEAF_ENCODING, (credential_id, data_hash, ipfs_cid, salt))
    assert leaf_hash(credential_id, data_hash, ipfs_cid, salt) == keccak256(keccak256(encoded))


@pytest.mark.parametrize(("data_hash", "salt"), [(bytes(31), bytes(32)), (bytes(32), bytes(33)), (b"", b"")])
def test_leaf_refuses_other_lengths(data_hash: bytes, salt: bytes) -> None:
    """A shorter word would shift all that follows."""
    with pytest.raises(ValueError, match="32 bytes"):
        leaf_hash("id", data_hash, "", salt)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['size']} leaves")
def test_trees_are_those_of_openzeppelin(vector: dict[str, Any]) -> None:
    """Root, nodes and proofs as npm's library makes them."""
    leaves = [from_hex(leaf) for leaf in vector.get("all") or [leaf["leaf"] for leaf in vector["leaves"]]]
    tree = MerkleTree(leaves)
    assert len(leaves) == vector["size"]
    assert tree.root == from_hex(vector["root"])
    for leaf in vector["leaves"]:
        made = leaf_of(leaf["values"])
        assert made == from_hex(leaf["leaf"])
        assert tree.proof(made) == [from_hex(sibling) for sibling in leaf["proof"]]
        assert verify(tree.root, made, tree.proof(made))
    if "nodes" in vector:
        assert tree.nodes == tuple(from_hex(node) for node in vector["nodes"])


@settings(deadline=None)
@given(LEAVES, st.randoms(use_true_random=False))
def test_every_leaf_has_a_proof(leaves: list[bytes], chance: random.Random) -> None:
    """Whatever their number and order."""
    tree = MerkleTree(leaves)
    shuffled = chance.sample(leaves, len(leaves))
    assert MerkleTree(shuffled).root == tree.root
    for leaf in leaves:
        proof = tree.proof(leaf)
        assert len(proof) <= (len(leaves) - 1).bit_length()
        assert root_of(leaf, proof) == tree.root
        assert verify(tree.root, leaf, proof)


@settings(deadline=None)
@given(LEAVES.filter(lambda leaves: len(leaves) > 1), st.data())
def test_a_changed_proof_proves_nothing(leaves: list[bytes], data: st.DataObject) -> None:
    """One bit in any part, a part too few, a part too many, another leaf."""
    tree = MerkleTree(leaves)
    leaf = data.draw(st.sampled_from(leaves))
    proof = tree.proof(leaf)
    parts = [tree.root, leaf, *proof]
    place, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[place] = (int.from_bytes(parts[place]) ^ (1 << bit)).to_bytes(32)
    assert not verify(parts[0], parts[1], parts[2:])
    assert not verify(tree.root, leaf, proof[:-1])
    assert not verify(tree.root, leaf, [*proof, bytes(32)])
    other = data.draw(st.sampled_from([one for one in leaves if one != leaf]))
    assert not verify(tree.root, other, proof) or tree.proof(other) == proof


@settings(deadline=None)
@given(LEAVES)
def test_parts_of_another_length_prove_nothing(leaves: list[bytes]) -> None:
    """Nothing is padded or cut."""
    tree = MerkleTree(leaves)
    leaf = leaves[0]
    assert not verify(tree.root, leaf + b"\0", tree.proof(leaf))
    assert not verify(tree.root[:-1], leaf, tree.proof(leaf))
    assert not verify(tree.root, leaf, [*tree.proof(leaf), b""])


def test_a_byte_moved_between_leaf_and_sibling_proves_nothing() -> None:
    """Their hash is the same: 64 bytes are 64 bytes."""
    small, large = b"\1" * 32, b"\2" * 32
    tree = MerkleTree([small, large])
    moved, rest = small + large[:1], large[1:]
    assert root_of(moved, [rest]) == tree.root
    assert not verify(tree.root, moved, [rest])
    assert not verify(b"", b"", [])


def test_a_single_leaf_is_the_root() -> None:
    """With an empty proof."""
    tree = MerkleTree([bytes(31) + b"\1"])
    assert tree.root == bytes(31) + b"\1"
    assert tree.proof(tree.root) == []


@pytest.mark.parametrize(
    ("leaves", "fault"),
    [
        ([], "at least one leaf"),
        ([bytes(31)], "32 bytes"),
        ([bytes(32), b"\1" * 32, bytes(32)], "twice"),
    ],
)
def test_leaves_that_make_no_tree(leaves: list[bytes], fault: str) -> None:
    """None, of another length, or one of them twice: that would be one credential in two places."""
    with pytest.raises(ValueError, match=fault):
        MerkleTree(leaves)


def test_a_leaf_of_another_tree_has_no_proof() -> None:
    """An inner node has none either."""
    tree = MerkleTree([bytes([number]) * 32 for number in range(4)])
    for stranger in (b"\xff" * 32, tree.root):
        with pytest.raises(KeyError):
            tree.proof(stranger)


def test_an_inner_node_leads_to_the_root_too() -> None:
    """`verify` alone can not tell it from a leaf: `pipeline.proof` makes the leaf of its values."""
    tree = MerkleTree([bytes([number]) * 32 for number in range(4)])
    _, inner, sibling, *_ = tree.nodes
    assert verify(tree.root, inner, [sibling])

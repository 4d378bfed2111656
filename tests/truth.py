"""What must hold whatever went wrong: ledger and chain say the same, each credential once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from typing import Any

from eth_utils.crypto import keccak

from pipeline import status
from pipeline.anchors import receipt_of
from pipeline.chain.client import ChainClient
from pipeline.merkle import MerkleTree, leaf_hash, verify
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write
from pipeline.receipt import check_receipt
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

#: Blocks for which nothing of a failed credential may come up.
LATER_BLOCKS = 50

#: How many credentials the contract is asked about.
SAMPLE = 20

ANCHORED = "0x" + keccak(text="Anchored(bytes32,address)").hex()

#: Which transactions have anchored a root.
Anchors = dict[str, list[str]]


def assert_truthful(anvil: Anvil, variables: dict[str, Any], *, foreign: Collection[int] = ()) -> None:
    """Check the whole ledger against the node, and the registry against the ledger.

    Nothing may be under way any more. Failed writes are allowed: nothing of them may be on the
    chain, neither now nor fifty blocks later. ``foreign`` are nonces that somebody else has used.
    """
    chain = ChainClient(Settings(**{**variables, "blockchain_rpc_url": anvil.rpc_url}))
    assert Write.select().where(Write.state.in_(State.PENDING)).count() == 0
    assert status.counts() == {
        state: Write.select().where(condition).count() for state, (condition, _) in status.LISTS.items()
    }
    if Write.select().where(Write.state == State.FAILED).exists():
        anvil.mine(LATER_BLOCKS)
    batches = list(Batch.select().where(Batch.state == BatchState.CONFIRMED, ~Batch.mock))
    _confirmed_ones_are_there(chain, batches)
    anchors = _anchors_in_the_log(anvil, chain.contract_address)
    _nothing_else_is_there(anchors, batches)
    _each_batch_has_one_nonce(batches)
    _nonces_are_contiguous(chain, set(foreign))
    _each_credential_is_in_one_tree()
    for batch in batches:
        _the_tree_is_that_of_its_members(batch)
    _the_contract_finds_them(chain)


def _confirmed_ones_are_there(chain: ChainClient, batches: list[Batch]) -> None:
    receipts = chain.receipts([batch.transaction_hash for batch in batches]) if batches else {}
    blocks = chain.blocks(sorted({batch.block_number for batch in batches})) if batches else {}
    for batch in batches:
        receipt = receipts[batch.transaction_hash]
        assert receipt is not None, batch.transaction_hash
        assert (receipt.status, receipt.block_hash) == (1, batch.block_hash)
        block = blocks[batch.block_number]
        assert block is not None
        assert block.hash == batch.block_hash


def _anchors_in_the_log(anvil: Anvil, registry: str) -> Anchors:
    """What the registry has logged, from its first block to the head; of its events only this one."""
    wanted = {"address": registry, "topics": [ANCHORED], "fromBlock": "0x0", "toBlock": "latest"}
    anchors: Anchors = {}
    for log in anvil.rpc("eth_getLogs", wanted):
        anchors.setdefault(log["topics"][1], []).append(log["transactionHash"])
    return anchors


def _nothing_else_is_there(anchors: Anchors, batches: list[Batch]) -> None:
    """Each root of the registry is that of one confirmed batch, which names the transaction."""
    assert len({batch.merkle_root for batch in batches}) == len(batches)
    assert anchors == {batch.merkle_root: [batch.transaction_hash] for batch in batches}


def _each_batch_has_one_nonce(batches: list[Batch]) -> None:
    """But for those that were used in vain: by a transaction that reverted, or by somebody else's."""
    in_vain = (Transaction.state == TransactionState.REVERTED) | Transaction.lost_at.is_null(False)
    signed = Transaction.select().where(Transaction.batch.is_null(False), ~in_vain)
    live = sorted((row.batch_id, row.hash) for row in signed)
    assert live == sorted((batch.id, batch.transaction_hash) for batch in batches)


def _nonces_are_contiguous(chain: ChainClient, foreign: set[int]) -> None:
    """What is stored has no hole; every nonce of the signer is used up."""
    stored = sorted({row.nonce for row in Transaction.select(Transaction.nonce)})
    holes = set(range(stored[0], stored[-1])) - set(stored) if stored else set()
    assert holes <= foreign, f"nonces for which nothing is stored: {sorted(holes - foreign)}"
    mined, pending = chain.transaction_counts()
    assert mined == pending
    assert not stored or mined > stored[-1]
    used = (TransactionState.MINED, TransactionState.REVERTED)
    settled = [row.nonce for row in Transaction.select().where(Transaction.state.in_(used))]
    lost = {row.nonce for row in Transaction.select().where(Transaction.lost_at.is_null(False))}
    assert max(Counter(settled).values(), default=1) == 1
    assert set(settled) | lost == set(stored)


def _each_credential_is_in_one_tree() -> None:
    """A data hash of a credential is anchored once; salts, and so leaves, differ from write to write."""
    confirmed = list(Write.select().where(Write.state == State.CONFIRMED))
    assert [write.credential_id for write in confirmed if write.batch_id is None] == []
    times = Counter((write.credential_id, write.data_hash) for write in confirmed)
    assert {hashed: count for hashed, count in times.items() if count > 1} == {}


def _the_tree_is_that_of_its_members(batch: Batch) -> None:
    """The root on the chain stands for these credentials, all of them confirmed, and for nothing else."""
    members = list(Write.select().where(Write.batch == batch.id))
    assert {write.state for write in members} == {State.CONFIRMED}
    leaves = {write.credential_id: _leaf(write) for write in members}
    assert leaves == {write.credential_id: bytes(write.leaf) for write in members}
    assert len(leaves) == len(members) == batch.size
    tree = MerkleTree(leaves.values())
    root = bytes.fromhex(batch.merkle_root[2:])
    assert tree.root == root
    assert all(verify(root, leaf, tree.proof(leaf)) for leaf in leaves.values())


def _leaf(write: Any) -> bytes:
    """From what is to be proven."""
    return leaf_hash(
        write.credential_id, bytes.fromhex(write.data_hash), write.ipfs_cid or "", bytes(write.salt)
    )


def _the_contract_finds_them(chain: ChainClient) -> None:
    """By the receipts that holders get."""
    confirmed = Write.select().join(Batch).where(Write.state == State.CONFIRMED, ~Batch.mock)
    ids = sorted({write.credential_id for write in confirmed})
    for credential_id in random.Random(7).sample(ids, min(SAMPLE, len(ids))):
        receipt = check_receipt(receipt_of(credential_id))
        values = (receipt.credential_id, receipt.data_hash, receipt.ipfs_cid, receipt.salt)
        assert chain.registry.verify_credential(receipt.merkle_root, *values, receipt.merkle_proof)

"""What must hold whatever went wrong: the ledger says what the chain says, each leaf once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.chain.client import ChainClient
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

#: Blocks for which nothing of a failed credential may come up.
LATER_BLOCKS = 50


def assert_truthful(anvil: Anvil, variables: dict[str, Any]) -> None:
    """Check the whole ledger against the node; nothing may be under way any more."""
    chain = ChainClient(Settings(**{**variables, "blockchain_rpc_url": anvil.rpc_url}))
    assert Write.select().where(Write.state.in_(State.PENDING)).count() == 0
    _each_leaf_once()
    _confirmed_ones_are_there(chain)
    _nonces_are_contiguous(chain)
    _failed_ones_are_not_there(chain, anvil)


def _each_leaf_once() -> None:
    leaves = Counter(bytes(write.leaf) for write in Write.select(Write.leaf).where(Write.leaf.is_null(False)))
    assert max(leaves.values(), default=1) == 1
    assert Write.select().where(Write.state == State.CONFIRMED, Write.batch.is_null()).count() == 0


def _confirmed_ones_are_there(chain: ChainClient) -> None:
    batches = list(Batch.select().where(Batch.state == BatchState.CONFIRMED))
    receipts = chain.receipts([batch.transaction_hash for batch in batches]) if batches else {}
    blocks = chain.blocks(sorted({batch.block_number for batch in batches})) if batches else {}
    for batch in batches:
        receipt = receipts[batch.transaction_hash]
        assert receipt is not None, batch.transaction_hash
        assert (receipt.status, receipt.block_hash) == (1, batch.block_hash)
        block = blocks[batch.block_number]
        assert block is not None
        assert block.hash == batch.block_hash
        assert chain.is_anchored(bytes.fromhex(batch.merkle_root[2:]))
    assert len({batch.merkle_root for batch in batches}) == len(batches)


def _nonces_are_contiguous(chain: ChainClient) -> None:
    """What is stored has no hole; every nonce of the signer is used up."""
    stored = sorted({row.nonce for row in Transaction.select(Transaction.nonce)})
    assert stored == list(range(stored[0], stored[0] + len(stored))) if stored else True
    mined, pending = chain.transaction_counts()
    assert mined == pending
    assert not stored or mined > stored[-1]
    used = (TransactionState.MINED, TransactionState.REVERTED)
    settled = [row.nonce for row in Transaction.select().where(Transaction.state.in_(used))]
    lost = {row.nonce for row in Transaction.select().where(Transaction.lost_at.is_null(False))}
    assert max(Counter(settled).values(), default=1) == 1
    assert set(settled) | lost == set(stored)


def _failed_ones_are_not_there(chain: ChainClient, anvil: Anvil) -> None:
    """Neither now nor fifty blocks later."""
    failed = list(Write.select().where(Write.state == State.FAILED))
    if not failed:
        return
    anvil.mine(LATER_BLOCKS)
    for batch in Batch.select().where(Batch.state == BatchState.FAILED, Batch.merkle_root.is_null(False)):
        assert not chain.is_anchored(bytes.fromhex(batch.merkle_root[2:]))
    for write in failed:
        assert not chain.is_anchored(bytes(write.leaf))

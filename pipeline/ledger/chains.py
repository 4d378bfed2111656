"""What the ledger knows of a chain: which one it is, and how far it has been seen."""

from __future__ import annotations

import time

from pipeline.database import statement
from pipeline.models import Chain


def genesis_hash(chain_id: int) -> str | None:
    """The hash of the first block of the chain that was written to; None before the first write."""
    row = Chain.select(Chain.genesis_hash).where(Chain.chain_id == chain_id).tuples().first()
    return row[0] if row else None


@statement
def remember(chain_id: int, genesis_hash: str) -> None:
    """Note which chain it is, once and for all."""
    Chain.insert(chain_id=chain_id, genesis_hash=genesis_hash).on_conflict_ignore().execute()


def seen_block(chain_id: int) -> tuple[int, str] | None:
    """Number and hash of the newest block up to which everything was looked at."""
    row = Chain.select(Chain.seen_number, Chain.seen_hash).where(Chain.chain_id == chain_id).tuples().first()
    return (row[0], row[1]) if row and row[0] is not None else None


@statement
def lower_for(chain_id: int, head: int | None) -> float:
    """For how many seconds the head has stood still below a block in which something of ours was seen.

    ``head`` is its height, None when it is not below.
    """
    mine = Chain.chain_id == chain_id
    row = Chain.select(Chain.lower_since, Chain.seen_number).where(mine).tuples().first()
    since, seen = row or (None, None)
    now = time.time()
    if head is not None and since is not None and head == seen:
        return float(now - since)
    if head is not None or since is not None:
        Chain.update(lower_since=None if head is None else now).where(mine).execute()
    return 0.0


@statement
def mark_seen(chain_id: int, number: int, hash_: str, time_: float) -> None:
    """Note that everything up to this block has been looked at; ``time_`` is what it says of its own."""
    seen = {"seen_number": number, "seen_hash": hash_, "seen_time": time_}
    Chain.update(seen).where(Chain.chain_id == chain_id).execute()

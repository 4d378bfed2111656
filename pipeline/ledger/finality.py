"""Confirmed batches whose block may still be taken away, and the way back when it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee as pw

from pipeline.database import statement, transaction
from pipeline.ledger import journal, metadata, nonces, outbox, tallies
from pipeline.ledger.sql import among, chunks, lock_credentials, locked, rows, still
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write

#: States in which a batch counts as deep enough.
DEEP = (BatchState.SETTLED, BatchState.CONFIRMED)


@dataclass(frozen=True, slots=True)
class Place:
    """The block in which a batch was anchored."""

    batch_id: int
    block_number: int
    block_hash: str


def watched(chain_id: int) -> list[Place]:
    """Where batches are that are confirmed, or about to be, and not final; the lowest block first."""
    query = _places(chain_id).where(Batch.final_at.is_null(), ~Batch.mock)
    return [Place(*row) for row in rows(query.order_by(Batch.block_number, Batch.id))]


def newest_final(chain_id: int, limit: int) -> list[Place]:
    """Where the batches are that were called final last, the highest block first."""
    query = _places(chain_id).where(Batch.final_at.is_null(False))
    return [
        Place(*row) for row in rows(query.order_by(Batch.block_number.desc(), Batch.id.desc()).limit(limit))
    ]


def _places(chain_id: int) -> Any:
    return Batch.select(Batch.id, Batch.block_number, Batch.block_hash).where(
        Batch.chain_id == chain_id, Batch.state.in_(DEEP), Batch.block_number.is_null(False)
    )


def mark_final(batch_ids: Sequence[int]) -> None:
    """Nothing will take their block away."""
    for part in chunks(list(batch_ids)):
        _mark_final(part)


@statement
def _mark_final(batch_ids: Sequence[int]) -> None:
    Batch.update(final_at=time.time()).where(
        among(Batch.id, batch_ids), Batch.state.in_(DEEP), Batch.final_at.is_null()
    ).execute()


@transaction
def unconfirm(place: Place) -> list[str] | None:
    """A reorg took the block away: back to submitted, the credentials to pending, the same bytes go out.

    Returns the credentials that are pending again; None when somebody else did it, or the batch is
    in another block by now. One of which something newer is pending stays as it is: there is one
    pending write of a credential.
    """
    batch_id = place.batch_id
    members = rows(Write.select(Write.credential_id).where(Write.batch == batch_id))
    lock_credentials([row[0] for row in members])
    query = Batch.select().where(
        Batch.id == batch_id, Batch.state.in_(DEEP), Batch.block_hash == place.block_hash
    )
    if locked(query).first() is None:
        return None
    Batch.update(
        state=BatchState.SUBMITTED,
        block_number=None,
        block_hash=None,
        block_time=None,
        confirmations=0,
        confirmed_at=None,
        final_at=None,
    ).where(Batch.id == batch_id).execute()
    moved = _members_to_verified(batch_id)
    journal.note(
        journal.UNCONFIRMED,
        batch_id=batch_id,
        detail=f"block {place.block_number} ({place.block_hash}) is not in the chain any more",
    )
    outbox.add("pending", moved, reason="reorg", log={"batch_id": batch_id})
    tallies.reorg(1)
    tallies.unconfirmed(len(moved))
    if not _reopen(batch_id):
        # What anchored it was no transaction that could go out again.
        nonces.write_again(batch_id, reason="reorg")
    return [credential_id for _, credential_id in moved]


def _reopen(batch_id: int) -> bool:
    """The transactions that were signed for the batch's nonce wait for a block again; False for none."""
    used = Transaction.select(Transaction.nonce).where(
        Transaction.batch == batch_id, Transaction.state == TransactionState.MINED
    )
    reopened = Transaction.update(
        state=TransactionState.SENT,
        block_number=None,
        block_hash=None,
        missing_since=None,
        lost_at=None,
        sent_at=0,
        sent_block=None,
    ).where(
        Transaction.batch == batch_id,
        Transaction.state != TransactionState.REVERTED,
        Transaction.nonce.in_([row[0] for row in rows(used)]),
    )
    return bool(reopened.execute())


def _members_to_verified(batch_id: int) -> list[tuple[str, str]]:
    """Job and credential of those that are pending again."""
    other = Write.alias()
    newer = other.select(other.id).where(
        other.credential_id == Write.credential_id, other.state.in_(State.PENDING)
    )
    moved = rows(
        Write.update(state=State.VERIFIED, finished_at=None, purged_at=None, updated_at=time.time())
        .where(
            Write.batch == batch_id,
            still(Write.state, State.CONFIRMED),
            ~pw.fn.EXISTS(newer),
        )
        .returning(Write.job_id, Write.credential_id)
    )
    metadata.mark_pending([row[1] for row in moved])
    return [(row[0], row[1]) for row in moved]

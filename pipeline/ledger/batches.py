"""Which batch is written next, and what becomes of an attempt at it.

Until the intent is stored an attempt can fail: then every member has one attempt less.
With `submit` the nonce, the signed bytes and their hash are stored in one transaction
*before* the bytes go out; from there on the batch is settle's, and costs no attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dramatiq.common import compute_backoff

from pipeline.database import transaction
from pipeline.errors import PipelineError
from pipeline.ledger import control, dead_letters, incidents, journal, nonces, steps, tallies, trees
from pipeline.ledger.attempts import MAX_BACKOFF_MS, FailedAttempt, delay_of, tell_delayed
from pipeline.ledger.nonces import Signed
from pipeline.ledger.sql import locked, rows
from pipeline.merkle import MerkleTree
from pipeline.metrics.catalogue import RETRIED
from pipeline.models import Batch, BatchState, Signer, State, Transaction, Write

#: Sorts the urgent lane before the normal one, as the index ``batches_ready`` does.
URGENT_FIRST = Batch.lane.desc()


@dataclass(frozen=True, slots=True)
class Account:
    """Who writes where: chain id, signer's and registry's address."""

    chain_id: int
    signer: str
    contract_address: str


def next_ready(
    max_in_flight: int | None = None, chain_id: int | None = None, signer: str | None = None
) -> Batch | None:
    """The most urgent batch that may be written now.

    None while there is none, chain writing is paused or held, or ``max_in_flight`` nonces of the
    signer are unmined (None: no such limit).
    """
    batch: Batch | None = (
        Batch.select()
        .where(
            Batch.state.in_(BatchState.WAITING),
            Batch.due_at <= time.time(),
            Batch.size > 0,
            ~control.paused(),
            ~incidents.held(),
        )
        .order_by(URGENT_FIRST, Batch.due_at, Batch.id)
        .first()
    )
    if batch is None or max_in_flight is None:
        return batch
    return batch if nonces.in_flight(chain_id, signer).count < max_in_flight else None


@transaction
def begin_attempt(batch_id: int) -> bool:
    """Count the attempt that begins, where the one before has failed.

    False when the batch is gone, or somebody else's attempt at it has failed meanwhile and it
    is not due: two workers that chose it at once must not use up two attempts.
    """
    batch = _lock_waiting(batch_id)
    if batch is None or batch.due_at > time.time():
        return False
    if batch.retrying:
        Batch.update(retrying=False).where(Batch.id == batch_id).execute()
    if batch.retrying and batch.merkle_root is None:
        Write.update(attempts=Write.attempts + 1, due_at=None, updated_at=time.time()).where(
            Write.batch == batch_id, Write.state == State.VERIFIED
        ).execute()
    return True


@transaction
def fail_attempt(
    batch_id: int, error: PipelineError, *, stage: str, max_attempts: int, min_backoff_ms: int
) -> FailedAttempt:
    """Record that an attempt has failed: members are tried again later, or become dead letters.

    A batch already submitted is left alone: only the chain can say that it failed. So is one of
    which the failed attempt has been recorded.
    """
    batch = _lock_waiting(batch_id)
    if batch is None or batch.retrying:
        return FailedAttempt(None, None)
    if batch.merkle_root is not None:  # signed for before: it pays no attempts, and never fails for this
        _wait(batch_id, batch.size, error, min_backoff_ms, for_ever=True)
        steps.tell("delayed", batch_id, **delay_of(error, stage, min_backoff_ms))
        return FailedAttempt(min_backoff_ms, None)
    columns = (Write.id, Write.attempts, Write.job_id, Write.credential_id)
    members = rows(Write.select(*columns).where(Write.batch == batch_id))
    dead = [row[0] for row in members if error.permanent or row[1] >= max_attempts]
    alive = [row for row in members if not error.permanent and row[1] < max_attempts]
    cause = (
        dead_letters.bury(dead, error, state=State.VERIFIED, stage=stage, batch_id=batch_id) if dead else None
    )
    if not alive:
        Batch.update(state=BatchState.FAILED, size=0, reason=error.code).where(Batch.id == batch_id).execute()
        return FailedAttempt(None, cause)
    attempts = max(row[1] for row in alive)
    _, delay_ms = compute_backoff(attempts - 1, factor=min_backoff_ms, max_backoff=MAX_BACKOFF_MS)
    _wait(batch_id, len(alive), error, delay_ms)
    tallies.attempts(len(alive), stage=stage, outcome=RETRIED)
    tell_delayed(alive, error, stage, delay_ms, batch_id=batch_id)
    return FailedAttempt(delay_ms, cause)


def _wait(batch_id: int, size: int, error: PipelineError, delay_ms: int, *, for_ever: bool = False) -> None:
    """``for_ever``: as often as it takes, so that the journal need not have each time."""
    due_at = time.time() + delay_ms / 1000
    Batch.update(
        state=BatchState.FULL, size=size, due_at=due_at, sent_at=due_at, retrying=True, reason=error.code
    ).where(Batch.id == batch_id).execute()
    detail = f"{error.code}: {error.message}"
    journal.note(journal.ATTEMPT_FAILED, batch_id=batch_id, detail=detail, once=for_ever)
    Write.update(due_at=due_at, updated_at=time.time()).where(
        Write.batch == batch_id, Write.state == State.VERIFIED
    ).execute()


@transaction
def submit(
    batch_id: int,
    account: Account,
    *,
    nonce_floor: int,
    sign: Callable[[bytes, int], Signed],
    max_in_flight: int | None = None,
) -> Transaction | None:
    """Close the batch, reserve the nonce, sign, and store it all; returns the stored transaction.

    ``sign(root, nonce)`` must do no I/O. ``nonce_floor`` is the number of the signer's mined
    transactions, below which no nonce can be used any more. None when the batch is gone, or
    ``max_in_flight`` nonces of the signer are unmined.
    """
    signer = nonces.lock_signer(account.chain_id, account.signer, nonce_floor)
    in_flight = nonces.in_flight(account.chain_id, account.signer).count
    if max_in_flight is not None and in_flight >= max_in_flight:
        return None
    batch = _lock_waiting(batch_id)
    if batch is None or batch.due_at > time.time():
        return None
    # Signed for before: the same root, whoever of its members has moved on since.
    root = bytes.fromhex(batch.merkle_root[2:]) if batch.merkle_root else _plant(batch_id)
    nonce = max(signer.next_nonce, nonce_floor)
    signed = sign(root, nonce)
    Signer.update(next_nonce=nonce + 1).where(Signer.id == signer.id).execute()
    _close(
        batch_id,
        root,
        chain_id=account.chain_id,
        contract_address=account.contract_address,
        issuer=account.signer,
        transaction_hash=signed.hash,
    )
    steps.tell("written", batch_id, transaction_hash=signed.hash, nonce=nonce)
    return nonces.store(
        signed, chain_id=account.chain_id, signer=account.signer, nonce=nonce, batch_id=batch_id
    )


@transaction
def submit_mock(batch_id: int) -> bool:
    """Close the batch as if it were on a chain already; False when it is gone."""
    if _lock_waiting(batch_id) is None:
        return False
    _close(batch_id, _plant(batch_id), state=BatchState.SETTLED, mock=True, sent_at=time.time())
    steps.tell("written", batch_id, mock=True)
    return True


def _lock_waiting(batch_id: int) -> Batch | None:
    query = Batch.select().where(Batch.id == batch_id, Batch.state.in_(BatchState.WAITING))
    batch: Batch | None = locked(query).first()
    return batch


def _plant(batch_id: int) -> bytes:
    """Make and store the tree of the members' leaves; returns its root.

    The signer's lock is held for 0.5 ms longer by that, for 1,000 members: to store it later costs
    another 3 ms of work.
    """
    members = Write.select(Write.leaf).where(Write.batch == batch_id, Write.state == State.VERIFIED)
    tree = MerkleTree([bytes(row[0]) for row in rows(members)])
    trees.keep(batch_id, tree)
    return tree.root


def _close(batch_id: int, root: bytes, **values: Any) -> None:
    """The batch is submitted, or what ``values`` say; verified → written for all members."""
    now = time.time()
    closed = {"state": BatchState.SUBMITTED, "submitted_at": now, "reason": None, "retrying": False}
    Batch.update(merkle_root="0x" + root.hex(), **{**closed, **values}).where(Batch.id == batch_id).execute()
    mine = (Write.batch == batch_id) & (Write.state == State.VERIFIED)
    written = Write.update(state=State.WRITTEN, due_at=None, updated_at=now).where(mine).execute()
    tallies.batch_written(written)

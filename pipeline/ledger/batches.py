"""Which batch is written next, and what becomes of an attempt at it.

Until the intent is stored an attempt can fail: then every member has one attempt less.
With `submit` the nonce, the signed bytes and their hash are stored in one transaction
*before* the bytes go out; from there on the batch is settle's, and costs no attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from dramatiq.common import compute_backoff

from pipeline.database import transaction
from pipeline.errors import PipelineError
from pipeline.ledger import (
    control,
    dead_letters,
    incidents,
    journal,
    nonces,
    steps,
    tallies,
    trees,
    under_way,
)
from pipeline.ledger.attempts import MAX_BACKOFF_MS, FailedAttempt, delay_of, tell_delayed
from pipeline.ledger.bulk import update_each
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.nonces import Signed
from pipeline.ledger.sql import locked, rows, still
from pipeline.merkle import MerkleTree
from pipeline.metrics.catalogue import RETRIED
from pipeline.models import Batch, BatchState, State, Transaction, Write

#: Sorts the urgent lane before the normal one, as the index ``batches_ready`` does.
URGENT_FIRST = Batch.lane.desc()

#: Members of batches that are closed together: their leaves are in memory, and the signer is locked.
MAX_MEMBERS = 5000


@dataclass(frozen=True, slots=True)
class Account:
    """Who writes where: chain id, signer's and registry's address."""

    chain_id: int
    signer: str
    contract_address: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that may be written now."""

    id: int
    lane: str
    size: int
    retrying: bool


def ready(
    limit: int, max_in_flight: int | None = None, chain_id: int | None = None, signer: str | None = None
) -> list[Ready]:
    """At most ``limit`` batches that may be written now, the most urgent first.

    None while there is none, chain writing is paused or held, or ``max_in_flight`` nonces of the
    signer are unmined (None: no such limit). Together they have at most `MAX_MEMBERS`, or are one.
    """
    found = [Ready(*row) for row in _ready(time.time(), limit).fetchall()]
    if found and max_in_flight is not None:
        found = found[: max(0, max_in_flight - under_way.in_flight(chain_id, signer).count)]
    members = list(accumulate(batch.size for batch in found))
    return [batch for batch, total in zip(found, members, strict=True) if total <= MAX_MEMBERS] or found[:1]


_ready = Fixed(
    lambda now, limit: (
        Batch.select(Batch.id, Batch.lane, Batch.size, Batch.retrying)
        .where(
            Batch.state.in_(BatchState.WAITING),
            Batch.due_at <= now,
            Batch.size > 0,
            ~control.paused(),
            ~incidents.held(),
        )
        .order_by(URGENT_FIRST, Batch.due_at, Batch.id)
        .limit(limit)
    )
)


def next_ready(
    max_in_flight: int | None = None, chain_id: int | None = None, signer: str | None = None
) -> Ready | None:
    """The first of those that are `ready`."""
    return next(iter(ready(1, max_in_flight, chain_id, signer)), None)


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
            Write.batch == batch_id, still(Write.state, State.VERIFIED)
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
        Write.batch == batch_id, still(Write.state, State.VERIFIED)
    ).execute()


def submit(
    batch_id: int,
    account: Account,
    *,
    nonce_floor: int,
    sign: Callable[[bytes, int], Signed],
    max_in_flight: int | None = None,
) -> Transaction | None:
    """`submit_many` of one batch: its transaction, or None."""
    stored = submit_many([batch_id], account, nonce_floor=nonce_floor, sign=sign, max_in_flight=max_in_flight)
    return stored[0] if stored else None


@transaction
def submit_many(
    batch_ids: Sequence[int],
    account: Account,
    *,
    nonce_floor: int,
    sign: Callable[[bytes, int], Signed],
    max_in_flight: int | None = None,
    used_below: int = 0,
) -> list[Transaction]:
    """Close the batches, reserve nonces in their order, sign, and store it all, or nothing of it.

    ``sign(root, nonce)`` must do no I/O. ``nonce_floor`` is the number of the signer's mined
    transactions, below which no nonce can be used any more. Returns what is stored: nothing of
    batches that are gone, for which ``max_in_flight`` leaves no room (``used_below``: see
    `under_way.in_flight`), or while writing is paused.
    """
    signer = nonces.lock_signer(account.chain_id, account.signer, nonce_floor)
    room = len(batch_ids)
    if max_in_flight is not None:
        in_flight = under_way.in_flight(account.chain_id, account.signer, used_below).count
        room = max(0, max_in_flight - in_flight)
    planted = _plant(dict(islice(_lock_ready(batch_ids).items(), room)))
    if not planted:
        return []
    first = max(signer.next_nonce, nonce_floor)
    signed = [sign(one.root, nonce) for nonce, one in enumerate(planted, first)]
    nonces.give_out(signer, first + len(signed))
    _close(
        planted,
        {Batch.transaction_hash: [one.hash for one in signed]},
        chain_id=account.chain_id,
        contract_address=account.contract_address,
        issuer=account.signer,
    )
    told = zip(planted, signed, range(first, first + len(signed)), strict=True)
    steps.tell_each(
        "written",
        {one.batch_id: {"transaction_hash": own.hash, "nonce": nonce} for one, own, nonce in told},
        sizes=_sizes(planted),
    )
    return nonces.store_many(
        signed,
        [one.batch_id for one in planted],
        chain_id=account.chain_id,
        signer=account.signer,
        first_nonce=first,
    )


def submit_mock(batch_id: int) -> bool:
    """`submit_mock_many` of one batch; False when it is gone."""
    return bool(submit_mock_many([batch_id]))


@transaction
def submit_mock_many(batch_ids: Sequence[int]) -> list[int]:
    """Close the batches as if they were on a chain already; returns those that were not gone."""
    planted = _plant(_lock_ready(batch_ids))
    _close(planted, {}, state=BatchState.SETTLED, mock=True, sent_at=time.time())
    steps.tell_each("written", {one.batch_id: {"mock": True} for one in planted}, sizes=_sizes(planted))
    return [one.batch_id for one in planted]


def _lock_waiting(batch_id: int) -> Batch | None:
    query = Batch.select().where(Batch.id == batch_id, Batch.state.in_(BatchState.WAITING))
    batch: Batch | None = locked(query).first()
    return batch


def _lock_ready(batch_ids: Sequence[int]) -> dict[int, str | None]:
    """Those that may be written, locked, in the order of ``batch_ids``; with the roots signed for before."""
    found = dict(_waiting(list(batch_ids), time.time()).fetchall()) if batch_ids else {}
    return {batch_id: found[batch_id] for batch_id in batch_ids if batch_id in found}


_waiting = Fixed(
    lambda ids, now: locked(
        Batch.select(Batch.id, Batch.merkle_root)
        .where(
            any_of(Batch.id, ids), Batch.state.in_(BatchState.WAITING), Batch.due_at <= now, ~control.paused()
        )
        .order_by(Batch.id)  # in one order, so that no two wait for each other
    )
)


@dataclass(frozen=True, slots=True)
class _Planted:
    """A batch that is about to be closed."""

    batch_id: int
    size: int
    root: bytes


def _sizes(planted: Sequence[_Planted]) -> dict[int, int]:
    return {one.batch_id: one.size for one in planted}


def _plant(roots: Mapping[int, str | None]) -> list[_Planted]:
    """Make and store the trees of the batches' members; of one signed for before the root stays as it was.

    The signer's lock is held for 0.5 ms longer by that, for 1,000 members: to store it later costs
    another 3 ms of work.
    """
    leaves: dict[int, list[bytes]] = {batch_id: [] for batch_id in roots}
    for batch_id, leaf in _members([*roots]).fetchall() if roots else ():
        leaves[batch_id].append(bytes(leaf))
    made = {batch_id: MerkleTree(leaves[batch_id]) for batch_id, root in roots.items() if root is None}
    trees.keep(made)
    return [
        _Planted(
            batch_id,
            len(leaves[batch_id]),
            # Signed for before: the same root, whoever of its members has moved on since.
            bytes.fromhex(root[2:]) if root else made[batch_id].root,
        )
        for batch_id, root in roots.items()
    ]


_members = Fixed(
    lambda batch_ids: Write.select(Write.batch, Write.leaf).where(
        any_of(Write.batch, batch_ids), still(Write.state, *State.IN_A_BATCH)
    )
)


def _close(planted: Sequence[_Planted], own: Mapping[Any, Sequence[Any]], **common: Any) -> None:
    """They are submitted, or what ``common`` says, and so are all members."""
    now = time.time()
    closed = {"state": BatchState.SUBMITTED, "submitted_at": now, "reason": None, "retrying": False}
    ids = [one.batch_id for one in planted]
    roots = {Batch.merkle_root: ["0x" + one.root.hex() for one in planted]}
    update_each(Batch, ids, {**roots, **own}, common={**closed, **common})
    if ids:
        _end_waits(ids)
        tallies.batches_written([one.size for one in planted])


#: The members stay as they are, but for those that have waited for a retry.
_end_waits = Fixed(
    lambda batch_ids: Write.update(due_at=None).where(
        any_of(Write.batch, batch_ids), Write.due_at.is_null(False)
    )
)

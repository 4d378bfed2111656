"""Promise: every transition is guarded. Done twice, or to a row that is elsewhere, it changes nothing."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest
from peewee import IntegrityError

from pipeline.database import database
from pipeline.errors import HashMismatch, NodeUnreachable, TransactionReverted
from pipeline.ledger import (
    batches,
    confirmation,
    control,
    dead_letters,
    leases,
    recovery,
    retention,
    transactions,
    verification,
)
from pipeline.models import Batch, BatchState, Credential, Signer, State, Transaction, Write
from tests.ledger import (
    ACCOUNT,
    MINED,
    STATES,
    Rows,
    confirmed,
    everything,
    failed,
    purge_completed,
    queue,
    queued,
    settled,
    sign,
    verified,
    written,
)

FAILING: dict[str, Any] = {"stage": "a stage", "max_attempts": 3, "min_backoff_ms": 5000}
REVERTED = TransactionReverted("status 0")
UNREACHABLE = NodeUnreachable("no answer")


def join(rows: Rows) -> list[int]:
    """Put the write into a batch of one."""
    return verification.join([rows.write_id], [], lane="normal", max_size=1, linger_seconds=0)


def bury(rows: Rows) -> str | None:
    """Make the write a dead letter, as the first stage does."""
    return dead_letters.bury(
        [rows.write_id], HashMismatch("another"), state=State.QUEUED, stage="hash_verify"
    )


def purge(rows: Rows) -> Sequence[str]:
    """Purge whatever has ended."""
    later = time.time() + 1
    failures = retention.purge_failed(finished_before=later)
    return purge_completed(finished_before=later) + list(chain.from_iterable(failures))


#: Each transition, and the states from which it goes.
TRANSITIONS: dict[str, tuple[Callable[[Rows], object], set[str]]] = {
    "begin": (lambda rows: verification.begin([rows.write_id]), {"queued"}),
    "verification.fail_attempt": (
        lambda rows: verification.fail_attempt([rows.write_id], UNREACHABLE, **FAILING),
        {"queued"},
    ),
    "join": (join, {"queued"}),
    "batches.fail_attempt": (
        lambda rows: batches.fail_attempt(rows.batch_id, UNREACHABLE, **FAILING),
        {"verified"},
    ),
    "submit": (
        lambda rows: batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign),
        {"verified"},
    ),
    "submit_mock": (lambda rows: batches.submit_mock(rows.batch_id), {"verified"}),
    "settle": (lambda rows: transactions.settle(rows.batch_id), {"written"}),
    "confirm": (lambda rows: confirmation.confirm(rows.batch_id), {"settled"}),
    "requeue": (lambda rows: dead_letters.requeue([rows.write_id], resolution="replayed"), {"failed"}),
    "discard": (lambda rows: dead_letters.discard(rows.letter_id), {"failed"}),
    "purge": (purge, {"confirmed", "failed"}),
}
#: These need a transaction.
CHAIN: dict[str, tuple[Callable[[Rows], object], set[str]]] = {
    "record_mined": (lambda rows: transactions.record_mined(rows.transaction_id, MINED), {"written"}),
    "revert": (lambda rows: transactions.revert(rows.transaction_id, REVERTED), {"written"}),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_only_from_its_state(ledger: str, name: str) -> None:
    """From its own states a transition changes rows; from any other not one value."""
    transition, allowed = TRANSITIONS[name]
    Signer.create(chain_id=ACCOUNT.chain_id, address=ACCOUNT.signer, next_nonce=0)
    changed = set()
    for state, bring in STATES.items():
        rows = bring()
        before = everything()
        transition(rows)
        changed |= {state} if everything() != before else set()
    assert changed == allowed


@pytest.mark.parametrize("name", TRANSITIONS)
def test_twice_is_as_good_as_once(ledger: str, name: str) -> None:
    """The second call finds nothing to do, and says so (but `begin`, which a redelivery needs)."""
    transition, allowed = TRANSITIONS[name]
    rows = STATES[sorted(allowed)[0]]()
    transition(rows)
    before = everything()
    outcome: Any = transition(rows)
    assert everything() == before
    if dataclasses.is_dataclass(outcome):
        assert not any(dataclasses.astuple(outcome))  # type: ignore[arg-type]
    elif name != "begin":
        assert not outcome


@pytest.mark.parametrize("name", CHAIN)
def test_the_chain_speaks_of_what_it_has_been_asked(ledger: str, name: str) -> None:
    """A late answer to a sweep changes nothing of a batch that has moved on."""
    transition, allowed = CHAIN[name]
    changed = set()
    for state in ("written", "settled", "confirmed"):
        rows = STATES[state]()
        before = everything()
        transition(rows)
        changed |= {state} if everything() != before else set()
    assert changed == allowed


def test_reverted_once(ledger: str) -> None:
    """Dead letters once; neither a second revert, nor a block, nor settling brings it back."""
    rows = written()
    assert transactions.revert(rows.transaction_id, REVERTED)
    before = everything()
    assert transactions.revert(rows.transaction_id, REVERTED) is None
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    transactions.record_answer(rows.transaction_id, "known", taken=True)
    assert not transactions.settle(rows.batch_id)
    assert everything() == before
    assert Write.get_by_id(rows.write_id).state == State.FAILED


def test_a_reverted_write_can_be_written_again(ledger: str) -> None:
    """A replay gets a batch, a nonce and a transaction of its own; the old ones are kept."""
    rows = written()
    transactions.revert(rows.transaction_id, REVERTED)
    assert dead_letters.requeue([rows.write_id], resolution="replayed") == [rows.write_id]
    verification.begin([rows.write_id])
    [batch_id] = join(rows)
    assert batch_id != rows.batch_id
    assert batches.submit(batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert [row.nonce for row in Transaction.select().order_by(Transaction.id)] == [0, 1]


def test_mined_and_unmined(ledger: str) -> None:
    """A reorg takes the block back; twice is as good as once."""
    rows = written()
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.record_unmined(rows.transaction_id, "0x77")
    assert Batch.get_by_id(rows.batch_id).block_number == MINED.block_number
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    before = everything()
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    assert everything() == before
    batch = Batch.get_by_id(rows.batch_id)
    assert (batch.block_number, batch.block_hash, batch.confirmations) == (None, None, 0)


def test_the_way_of_a_write(ledger: str) -> None:
    """Its state after each stage, and the credential's word of it."""
    rows = settled()
    assert Write.get_by_id(rows.write_id).state == State.WRITTEN
    [done] = confirmation.confirm(rows.batch_id).writes
    write = Write.get_by_id(rows.write_id)
    assert (write.state, write.attempts, done.job_id) == (State.CONFIRMED, 1, write.job_id)
    own = json.loads(Credential.get_by_id(write.credential_id).metadata)
    transaction = Transaction.get_by_id(rows.transaction_id)
    assert own["blockchain_status"] == "confirmed"
    assert own["blockchain_transaction_hash"] == transaction.hash
    assert own["blockchain_block_number"] == MINED.block_number


def test_the_intent_is_whole(ledger: str) -> None:
    """One SQL transaction stores nonce, bytes, hash and root; a signer that fails leaves nothing."""

    def refuse(root: bytes, nonce: int) -> Any:
        raise ZeroDivisionError

    rows = verified()
    before = everything()
    with pytest.raises(ZeroDivisionError):
        batches.submit(rows.batch_id, ACCOUNT, nonce_floor=5, sign=refuse)
    assert everything() == before
    stored = batches.submit(rows.batch_id, ACCOUNT, nonce_floor=5, sign=sign)
    assert stored is not None
    batch = Batch.get_by_id(rows.batch_id)
    assert (stored.nonce, Signer.get().next_nonce) == (5, 6)
    assert (batch.state, batch.transaction_hash) == (BatchState.SUBMITTED, stored.hash)
    assert batch.merkle_root == "0x" + bytes(Write.get_by_id(rows.write_id).leaf).hex()


def test_nonces_are_never_given_twice(ledger: str) -> None:
    """They go on from the higher of what was given out and what the chain has."""
    nonces = [
        batches.submit(verified().batch_id, ACCOUNT, nonce_floor=floor, sign=sign) for floor in (0, 0, 7, 3)
    ]
    assert [stored.nonce for stored in nonces if stored] == [0, 1, 7, 8]


def test_full_batches_are_closed_to_joiners(ledger: str) -> None:
    """Sizes never pass the limit; the first member of each batch is told, for its message."""
    ids = queue(7)
    made = verification.join(ids[:4], ids[4:], lane="normal", max_size=3, linger_seconds=0)
    found = list(Batch.select().order_by(Batch.id))
    assert sorted((batch.size, batch.state) for batch in found) == [(1, "open"), (3, "full"), (3, "full")]
    assert sorted(made) == [batch.id for batch in found]
    checked = [write.document_checked for write in Write.select().order_by(Write.id)]
    assert checked == [True] * 4 + [False] * 3


def test_lanes_have_batches_of_their_own(ledger: str) -> None:
    """Urgent work goes first, whatever has waited longer."""
    first, second = queue(2)
    verification.join([first], [], lane="normal", max_size=5, linger_seconds=0)
    verification.join([second], [], lane="urgent", max_size=5, linger_seconds=0)
    ready = batches.next_ready()
    assert ready is not None
    assert ready.lane == "urgent"


def test_the_database_refuses_a_second_open_batch(ledger: str) -> None:
    """Not only the code does."""
    Batch.create(lane="normal")
    Batch.create(lane="urgent")
    with pytest.raises(IntegrityError):
        Batch.create(lane="normal")


def test_the_database_refuses_a_second_pending_write(ledger: str) -> None:
    """One credential has one write on its way."""
    write = Write.get_by_id(queued().write_id)
    row = {"credential_id": write.credential_id, "data_hash": write.data_hash}
    Write.create(job_id="done", state=State.CONFIRMED, **row)
    with pytest.raises(IntegrityError):
        Write.create(job_id="second", **row)


def test_not_ready(ledger: str) -> None:
    """Lingering, paused or with too much in flight: there is nothing to write."""
    [lingering] = queue(1)
    verification.join([lingering], [], lane="urgent", max_size=5, linger_seconds=60)
    assert batches.next_ready() is None
    written()
    rows = verified()
    assert batches.next_ready(max_in_flight=1) is None
    ready = batches.next_ready(max_in_flight=2)
    assert ready is not None
    assert ready.id == rows.batch_id
    control.set_paused(True)
    assert batches.next_ready() is None
    control.set_paused(False)
    assert batches.next_ready() is not None


def test_an_empty_batch_is_never_ready(ledger: str) -> None:
    """There would be no root."""
    Batch.create(lane="normal", due_at=0)
    assert batches.next_ready() is None


# --- dead letters ------------------------------------------------------------------------------


def test_discarded_stays_failed(ledger: str) -> None:
    """It leaves the list; the credential is failed as before."""
    rows = failed()
    assert dead_letters.discard(rows.letter_id)
    assert dead_letters.open_letters() == []
    assert Write.get_by_id(rows.write_id).state == State.FAILED


def test_one_cause_for_a_batch(ledger: str) -> None:
    """A dead letter for each credential, one cause for all, reported once."""
    ids = queue(3)
    verification.begin(ids)
    verification.join(ids, [], lane="normal", max_size=9, linger_seconds=0)
    batch_id = Batch.get().id
    outcome = batches.fail_attempt(batch_id, REVERTED, **FAILING)
    assert outcome.cause_id is not None
    cause = dead_letters.cause_of(outcome.cause_id)
    assert cause is not None
    assert (cause.count, cause.batch_id, cause.attempts, cause.permanent) == (3, batch_id, 1, True)
    assert dead_letters.causes_not_alerted(created_before=time.time() + 1) == [outcome.cause_id]
    assert dead_letters.causes_not_alerted(created_before=time.time() - 10) == []
    dead_letters.mark_alerted(outcome.cause_id)
    assert dead_letters.cause_of(outcome.cause_id) is None
    assert dead_letters.causes_not_alerted(created_before=time.time() + 1) == []


def test_replayed_after_an_outage(ledger: str) -> None:
    """What was no fault of the write, a bounded number of times; never what is permanent."""
    rows = failed()
    bury(queued())
    for _ in range(dead_letters.MAX_AUTO_REPLAYS):
        assert dead_letters.replayable_after_outage(10) == [rows.write_id]
        dead_letters.requeue([rows.write_id], resolution=dead_letters.AUTO_REPLAYED)
        dead_letters.bury([rows.write_id], UNREACHABLE, state=State.QUEUED, stage="chain_write")
    assert dead_letters.replayable_after_outage(10) == []


# --- what a purge takes --------------------------------------------------------------------------


def test_full_batches_are_made_at_once(ledger: str) -> None:
    """What fills a batch of its own waits for nobody's open one; the rest joins that."""
    ids = queue(7)
    verification.begin(ids)
    Write.update(state=State.FAILED).where(Write.id == ids[1]).execute()
    made = verification.join(ids, [], lane="normal", max_size=3, linger_seconds=60)
    sizes = {batch.id: (batch.state, batch.size) for batch in Batch.select()}
    assert sorted(sizes[batch_id] for batch_id in made) == [("full", 2), ("full", 3), ("open", 1)]
    for batch_id, (_, size) in sizes.items():
        assert Write.select().where(Write.batch == batch_id, Write.state == State.VERIFIED).count() == size
    assert verification.join(ids, [], lane="normal", max_size=1, linger_seconds=0) == []


def test_single_writes_are_joined_in_few_statements(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many for 400 as for 4: with BATCH_MAX_SIZE=1 a backlog must not keep threads busy for minutes."""
    statements = 0
    queue(1)
    execute = database.obj.execute_sql

    def counted(sql: str, *rest: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(sql, *rest)

    counts = []
    for count, prefix in ((4, "few"), (400, "many")):
        ids = queue(count, prefix=prefix)
        verification.begin(ids)
        statements = 0
        with monkeypatch.context() as patched:
            patched.setattr(database.obj, "execute_sql", counted)
            assert len(verification.join(ids, [], lane="normal", max_size=1, linger_seconds=0)) == count
        counts.append(statements)
    assert counts[1] <= counts[0] + 1


def test_purge_keeps_the_newest(ledger: str) -> None:
    """Beyond the newest n all go; of those within, what is too old."""
    ids = [confirmed().write_id for _ in range(5)]
    for age, write_id in enumerate(reversed(ids)):
        Write.update(finished_at=1000 - age).where(Write.id == write_id).execute()
    job_ids = [Write.get_by_id(write_id).job_id for write_id in ids]
    assert purge_completed(finished_before=0, keep_newest=3) == job_ids[:2]
    assert purge_completed(finished_before=0, keep_newest=3) == []
    assert purge_completed(finished_before=999, keep_newest=3) == [job_ids[2]]


def test_purge_leaves_what_is_pending(ledger: str) -> None:
    """However old it is."""
    rows = [STATES[state]() for state in ("queued", "verified", "written", "settled")]
    before = everything()
    purge(rows[0])
    assert everything() == before


def test_purged_failures_lose_their_dead_letters(ledger: str) -> None:
    """The row stays as a tombstone; a replay of it, by queueing it again, counts as failed no more."""
    rows = failed()
    assert len(list(retention.purge_failed(finished_before=time.time() + 1))) == 1
    assert dead_letters.open_letters() == []
    assert dead_letters.requeue([rows.write_id], resolution="queued again") == [rows.write_id]
    assert Write.get_by_id(rows.write_id).purged_at is None


# --- recovery, leases ----------------------------------------------------------------------------


def test_lost_writes_are_claimed_once(ledger: str) -> None:
    """Those that are queued, due, of the lane, and whose message is older; then they are new again."""
    normal, urgent = queue(1), queue(1, prefix="u", priority="urgent")
    delayed = queue(1, prefix="d")
    verified()
    Write.update(sent_at=1.0).execute()
    Write.update(due_at=time.time() + 60).where(Write.id.in_(delayed)).execute()
    assert recovery.claim_writes("normal", sent_before=0.5) == []
    assert recovery.claim_writes("normal", sent_before=2.0) == normal
    assert recovery.claim_writes("normal", sent_before=2.0) == []
    assert recovery.claim_writes("urgent", sent_before=2.0) == urgent


def test_lost_batches_are_claimed_once(ledger: str) -> None:
    """With their lane; empty ones and those that are not due are left."""
    rows = verified()
    Batch.create(lane="urgent", due_at=0)
    Batch.update(sent_at=1.0).execute()
    assert recovery.claim_batches(recovery.WAITING, sent_before=2.0) == [(rows.batch_id, "normal")]
    assert recovery.claim_batches(recovery.WAITING, sent_before=2.0) == []


def test_a_lease_has_one_holder(ledger: str) -> None:
    """Prolonged by its holder, taken by another when it is given back or has ended."""
    assert leases.acquire("sweep", "a", seconds=60)
    assert leases.acquire("sweep", "a", seconds=60)
    assert not leases.acquire("sweep", "b", seconds=60)
    leases.release("sweep", "b")
    assert not leases.acquire("sweep", "b", seconds=60)
    assert leases.acquire("sweep", "a", seconds=-1)
    assert leases.acquire("sweep", "b", seconds=60)
    leases.release("sweep", "b")
    with leases.held("sweep", seconds=60) as mine, leases.held("sweep", seconds=60) as second:
        assert (mine, second) == (True, False)
    assert leases.acquire("sweep", "c", seconds=60)

"""Promise: however many threads and processes do the same at once, it is done once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from pipeline.errors import ConflictingWrite, NodeUnreachable, TransactionReverted
from pipeline.intake import WriteRequest
from pipeline.ledger import (
    batches,
    confirmation,
    dead_letters,
    joining,
    leases,
    queueing,
    recovery,
    transactions,
    verification,
)
from pipeline.merkle import MerkleTree
from pipeline.models import Batch, BatchState, Credential, DeadLetter, State, Transaction, Write
from tests.issuer import document
from tests.ledger import (
    ACCOUNT,
    confirmed,
    failed,
    mined,
    purge_completed,
    queue,
    settled,
    sign,
    verified,
)
from tests.racing import in_processes, in_threads

Environment = Callable[..., dict[str, str]]

WRITES = 2000
BATCH_SIZE = 60

RACERS = """
import json, random, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pipeline.database import close_connection, database
from pipeline.ledger import batches, joining, verification
from pipeline.ledger.confirmation import confirm
from pipeline.models import Batch, BatchState, State, Write
database.is_closed()
"""

#: Verifies ids a third of which another process has, too: messages come twice.
JOIN = """
role, number, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seed = random.Random(number)

def join(half):
    ids = [row[0] for row in Write.select(Write.id).order_by(Write.id).tuples()]
    ids = [id_ for id_ in ids if id_ % 6 in (half * 3 + number % 3, half * 3 + (number + 1) % 3)]
    made = []
    while ids:
        part, ids = ids[: (n := seed.randint(1, 12))], ids[n:]
        for lane, odd in (("normal", 0), ("urgent", 1)):
            mine = [id_ for id_ in part if id_ % 2 == odd]
            made += joining.join(mine, [], lane=lane, max_size=size, linger_seconds=0)
    close_connection()
    return made

def close(_):
    while Write.select().where(Write.state.in_((State.QUEUED, State.VERIFIED))).exists():
        lanes = [row[0] for row in Batch.select(Batch.lane).where(Batch.state == BatchState.OPEN).tuples()]
        assert len(lanes) == len(set(lanes)), lanes
        ready = batches.next_ready()
        if ready is not None:
            batches.submit_mock(ready.id)
            confirm(ready.id)
        time.sleep(0.002)
    close_connection()
    return []

with ThreadPoolExecutor(2) as pool:
    made = sum(pool.map(join if role == "join" else close, range(2)), [])
print(json.dumps(made))
"""


def test_joins_while_batches_are_closed(ledger: str, worker_environment: Environment) -> None:
    """2,000 writes, half of them verified twice: each in one batch, sizes right, roots of the members.

    Three processes verify and two close, with two threads each. No lane ever has two open
    batches, and each batch's first member is told to exactly one of those who verify.
    """
    ids = queue(WRITES)
    arguments = [("join", number, BATCH_SIZE) for number in range(3)] + [("close", 0, 0)] * 2
    outputs = in_processes(RACERS, JOIN, arguments, worker_environment(database_url=ledger))
    made = [batch_id for output in outputs for batch_id in json.loads(output)]
    full = list(Batch.select().where(Batch.size > 0))
    assert sorted(made) == sorted(batch.id for batch in full)
    assert sum(batch.size for batch in full) == WRITES
    members: dict[int, list[bytes]] = {batch.id: [] for batch in full}
    for write in Write.select():
        assert write.state == State.CONFIRMED
        members[write.batch_id].append(bytes(write.leaf))
    for batch in full:
        assert batch.size == len(members[batch.id]) <= BATCH_SIZE
        assert batch.merkle_root == "0x" + MerkleTree(members[batch.id]).root.hex()
    assert len(ids) == WRITES
    assert len(full) >= WRITES / BATCH_SIZE


# --- intake ----------------------------------------------------------------------------------------

QUEUE = """
from concurrent.futures import ThreadPoolExecutor
from pipeline import client
from pipeline.credentials import issue
from pipeline.database import close_connection, database
database.is_closed()
"""

SEND = """
def work(_):
    try:
        return client.write_to_blockchain_queued("c0", "ab" * 32)
    finally:
        close_connection()

with ThreadPoolExecutor(10) as pool:
    print(*pool.map(work, range(10)), sep="\\n")
"""

ISSUE = SEND.replace('client.write_to_blockchain_queued("c0", "ab" * 32)', 'issue("new", {"grade": 1})')


@pytest.mark.parametrize(("code", "credential_id"), [(SEND, "c0"), (ISSUE, "new")], ids=["send", "issue"])
def test_queued_fifty_times_at_once(
    ledger: str, redis_url: str, worker_environment: Environment, code: str, credential_id: str
) -> None:
    """By five processes with ten threads each: one write, one job id for all, one message."""
    Credential.insert({"id": "c0"}).execute()
    environment = worker_environment(database_url=ledger, redis_url=redis_url)
    outputs = in_processes(QUEUE, code, [()] * 5, environment)
    jobs = [line for output in outputs for line in output.splitlines()]
    assert len(jobs) == 50
    [write] = Write.select()
    assert set(jobs) == {write.job_id}
    assert write.credential_id == credential_id
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.hlen("dramatiq:hash_verify.msgs") == 1


def test_different_hashes_at_once(client: Any) -> None:
    """One of them is first; for the others it is in the way, and their documents are not stored."""
    from pipeline.credentials import issue

    outcomes = in_threads(8, lambda number: issue("c1", document(number)))
    jobs = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(jobs) == 1
    assert sum(isinstance(outcome, ConflictingWrite) for outcome in outcomes) == 7
    [write] = Write.select()
    assert Credential.get_by_id("c1").data_hash == write.data_hash


def test_bulks_in_opposite_orders(ledger: str) -> None:
    """Both lists are queued whole: locks are taken in one order, or a deadlock is tried again."""
    names = [f"c{number}" for number in range(300)]
    Credential.insert_many([{"id": name} for name in names]).execute()
    requests = [WriteRequest.of(name, "ab" * 32) for name in names]

    def work(number: int) -> set[str]:
        ordered = requests if number % 2 else requests[::-1]
        return {queued.job_id for queued in queueing.queue(ordered)}

    outcomes = in_threads(4, work)
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
    assert Write.select().count() == len(names)


def test_urgent_while_it_joins(ledger: str) -> None:
    """Upgrades and joins of the same writes: nothing is lost, nothing is in two lanes."""
    ids = queue(60)
    requests = [
        WriteRequest.of(write.credential_id, write.data_hash, priority="urgent") for write in Write.select()
    ]

    def work(number: int) -> object:
        if number % 2:
            return [queueing.queue([request]) for request in requests[number // 2 :: 2]]
        return [
            joining.join([write_id], [], lane="normal", max_size=7, linger_seconds=0)
            for write_id in ids[number // 2 :: 2]
        ]

    outcomes = in_threads(4, work)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert sum(batch.size for batch in Batch.select()) == len(ids)
    for batch in Batch.select():
        assert batch.size == Write.select().where(Write.batch == batch.id).count()


# --- dead letters ----------------------------------------------------------------------------------


def test_replayed_ten_times_at_once(client: Any, redis_url: str) -> None:
    """One of them moves it, and one message leaves."""
    from pipeline import deadletters

    rows = failed()
    outcomes = in_threads(10, lambda _: deadletters.replay_all())
    assert Counter(outcomes) == {0: 9, 1: 1}
    assert Write.get_by_id(rows.write_id).state == State.QUEUED
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.hlen("dramatiq:hash_verify.msgs") == 1


def test_replayed_while_it_is_queued_again(ledger: str) -> None:
    """The operator replays, the issuer queues new content: one of the two is pending."""
    write = Write.get_by_id(failed().write_id)
    other = WriteRequest.of(write.credential_id, "cd" * 32)

    def work(number: int) -> object:
        if number % 2:
            return dead_letters.requeue([write.id], resolution="replayed")
        return [queued.job_id for queued in queueing.queue([other])]

    outcomes = in_threads(6, work)
    pending = list(Write.select().where(Write.state.in_(State.PENDING)))
    assert len(pending) == 1
    unexpected = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, ConflictingWrite)]
    assert unexpected == []
    assert dead_letters.open_letters() == []


def test_buried_ten_times_at_once(ledger: str) -> None:
    """One cause, a dead letter for each write."""
    ids = queue(20)
    error = TransactionReverted("status 0")
    causes = in_threads(10, lambda _: dead_letters.bury(ids, error, state=State.QUEUED, stage="settle"))
    assert sum(cause is not None for cause in causes) == 1, causes
    assert DeadLetter.select().count() == len(ids)


# --- batches and the chain -------------------------------------------------------------------------


def test_nonces_are_contiguous(ledger: str) -> None:
    """Ten batches submitted at once by as many threads, each tried by two of them."""
    ids = [verified().batch_id for _ in range(10)]
    outcomes = in_threads(
        20, lambda number: batches.submit(ids[number % 10], ACCOUNT, nonce_floor=3, sign=sign) is not None
    )
    assert Counter(outcomes) == {True: 10, False: 10}
    assert sorted(row.nonce for row in Transaction.select()) == list(range(3, 13))
    assert {row.batch_id for row in Transaction.select()} == set(ids)


def once(outcomes: Sequence[object]) -> bool:
    """Whether exactly one of them did something."""
    return not any(isinstance(o, Exception) for o in outcomes) and sum(map(bool, outcomes)) == 1


def test_mocked_once(ledger: str) -> None:
    """A permit that came twice."""
    rows = verified()
    assert once(in_threads(8, lambda _: batches.submit_mock(rows.batch_id)))


def test_settled_once(ledger: str) -> None:
    """Two sweeps at once send one message."""
    rows = mined()
    assert once(in_threads(8, lambda _: transactions.settle(rows.batch_id)))


def test_reverted_or_settled(ledger: str) -> None:
    """A batch ends in one way."""
    rows = mined()
    error = TransactionReverted("status 0")

    def work(number: int) -> object:
        if number % 2:
            return transactions.settle(rows.batch_id)
        return transactions.revert(rows.transaction_id, error)

    assert once(in_threads(8, work))
    settled_ = Batch.get_by_id(rows.batch_id).state == BatchState.SETTLED
    assert (DeadLetter.select().count() == 0) is settled_


def test_confirmed_once(ledger: str) -> None:
    """Ten deliveries of the last stage's message."""
    rows = settled()
    assert once(in_threads(10, lambda _: confirmation.confirm(rows.batch_id)))


def test_attempts_of_many_workers(ledger: str) -> None:
    """Six workers find the same batch with the node down: that is one attempt."""
    rows = verified()
    error = NodeUnreachable("no answer")

    def work(_: int) -> bool:
        batches.begin_attempt(rows.batch_id)
        failing: dict[str, Any] = {"stage": "chain_write", "max_attempts": 3, "min_backoff_ms": 5000}
        return batches.fail_attempt(rows.batch_id, error, **failing).retry_in_ms is not None

    assert once(in_threads(6, work))
    assert Write.get_by_id(rows.write_id).attempts == 1


def test_began_many_times_at_once(ledger: str) -> None:
    """Eight deliveries of one message are one attempt."""
    [write_id] = queue(1)
    in_threads(8, lambda _: verification.begin([write_id]))
    write = Write.get_by_id(write_id)
    assert (write.attempts, write.deliveries) == (1, 1)


# --- sweeps ----------------------------------------------------------------------------------------


def test_a_lease_for_one(ledger: str) -> None:
    """Also when it has ended, and all want it."""
    assert once(in_threads(8, lambda number: leases.acquire("sweep", str(number), seconds=60)))
    leases.Lease.update(expires_at=0).execute()
    assert once(in_threads(8, lambda number: leases.acquire("sweep", f"x{number}", seconds=60)))


def test_lost_writes_are_sent_by_one(ledger: str) -> None:
    """Two sweeps at once claim different rows."""
    ids = queue(200)
    Write.update(sent_at=1.0).execute()
    claimed = in_threads(4, lambda _: recovery.claim_writes("normal", sent_before=2.0, limit=100))
    found = [write_id for part in claimed if isinstance(part, list) for write_id in part]
    assert len(found) == len(set(found))
    assert set(found) <= set(ids)
    assert len(found) >= 100


def test_purged_by_one(ledger: str) -> None:
    """Two purges at once count nothing twice."""
    jobs = {Write.get_by_id(confirmed().write_id).job_id for _ in range(20)}
    later = time.time() + 1
    purged = in_threads(4, lambda _: purge_completed(finished_before=later))
    found = [job_id for part in purged if isinstance(part, list) for job_id in part]
    assert sorted(found) == sorted(jobs)

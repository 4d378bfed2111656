"""Promise: an attempt is counted once, when it begins; three in all; nothing but failing costs one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline import status
from pipeline.errors import HashMismatch, PipelineError, TransactionReverted
from pipeline.ledger import batches, dead_letters, joining, verification
from pipeline.ledger.attempts import FailedAttempt
from pipeline.models import Batch, BatchState, Credential, State, Write
from tests.ledger import UNREACHABLE, queue

THREE: dict[str, Any] = {"max_attempts": 3, "min_backoff_ms": 5000}

#: Seconds to wait after the first and after the second attempt.
GAPS = [(5.0, 10.0), (10.0, 20.0)]


def fail_verification(ids: Sequence[int], error: PipelineError = UNREACHABLE) -> FailedAttempt:
    """An attempt at queued writes fails."""
    return verification.fail_attempt(ids, error, stage="hash_verify", **THREE)


def fail_batch(batch_id: int, error: PipelineError = UNREACHABLE) -> FailedAttempt:
    """An attempt at a batch fails."""
    return batches.fail_attempt(batch_id, error, stage="chain_write", **THREE)


def batch_of(ids: list[int]) -> int:
    """Verify writes, into a batch of their own."""
    assert [write.id for write in verification.begin(ids)] == ids
    [batch_id] = joining.join(ids, [], lane="normal", max_size=len(ids), linger_seconds=0)
    return batch_id


def seen(write_id: int) -> tuple[str, int]:
    """What a poller sees: status and attempts."""
    credential_id = Write.get_by_id(write_id).credential_id
    found = status.status_of_credential(credential_id)
    return found["status"], found["attempts"]


def time_passes() -> None:
    """What is due later is due now."""
    Write.update(due_at=time.time() - 1).where(Write.due_at.is_null(False)).execute()
    Batch.update(due_at=time.time() - 1).execute()


def assert_waits(outcome: FailedAttempt, due_at: float, gap: tuple[float, float], before: float) -> None:
    """The row, the message's delay and the promise say the same."""
    assert outcome.cause_id is None
    assert outcome.retry_in_ms is not None
    assert gap[0] <= outcome.retry_in_ms / 1000 <= gap[1]
    assert before + gap[0] <= due_at <= time.time() + gap[1]


def test_three_attempts_at_verification(ledger: str) -> None:
    """Waiting, then delayed twice with growing gaps, then a dead letter with three attempts."""
    [write_id] = queue(1)
    assert seen(write_id) == ("waiting", 0)
    for number, gap in enumerate(GAPS, start=1):
        assert len(verification.begin([write_id])) == 1
        assert seen(write_id) == ("active", number)
        before = time.time()
        outcome = fail_verification([write_id])
        assert_waits(outcome, Write.get_by_id(write_id).due_at, gap, before)
        assert seen(write_id) == ("delayed", number)
        assert verification.begin([write_id]) == []
        time_passes()
    verification.begin([write_id])
    outcome = fail_verification([write_id])
    assert outcome.retry_in_ms is None
    assert outcome.cause_id is not None
    assert seen(write_id) == ("failed", 3)
    assert [letter.attempts for letter in dead_letters.open_letters()] == [3]


def test_three_attempts_at_a_batch(ledger: str) -> None:
    """The same for all members; the reason is with the batch, the batch is dead at last."""
    ids = queue(3)
    batch_id = batch_of(ids)
    for number, gap in enumerate(GAPS, start=1):
        assert batches.begin_attempt(batch_id)
        assert [seen(write_id) for write_id in ids] == [("active", number)] * 3
        before = time.time()
        assert_waits(fail_batch(batch_id), Batch.get_by_id(batch_id).due_at, gap, before)
        assert [seen(write_id) for write_id in ids] == [("delayed", number)] * 3
        assert batches.next_ready() is None
        time_passes()
    assert batches.begin_attempt(batch_id)
    outcome = fail_batch(batch_id)
    assert (outcome.retry_in_ms, outcome.cause_id is None) == (None, False)
    assert [seen(write_id) for write_id in ids] == [("failed", 3)] * 3
    assert Batch.get_by_id(batch_id).state == BatchState.FAILED
    assert [letter.cause_id for letter in dead_letters.open_letters()] == [outcome.cause_id] * 3


def test_attempts_add_up_over_the_stages(ledger: str) -> None:
    """One at verification and two at the batch are three."""
    [write_id] = queue(1)
    verification.begin([write_id])
    fail_verification([write_id])
    time_passes()
    batch_id = batch_of([write_id])
    batches.begin_attempt(batch_id)
    fail_batch(batch_id)
    time_passes()
    assert batches.begin_attempt(batch_id)
    assert seen(write_id) == ("active", 3)
    assert fail_batch(batch_id).cause_id is not None


def test_members_may_have_different_attempts(ledger: str) -> None:
    """Who has none left is a dead letter, the others are tried again without it."""
    tired, fresh = queue(2)
    Write.update(attempts=3).where(Write.id == tired).execute()
    batch_id = batch_of([tired, fresh])
    outcome = fail_batch(batch_id)
    assert outcome.retry_in_ms is not None
    assert outcome.cause_id is not None
    assert (seen(tired), seen(fresh)) == (("failed", 3), ("delayed", 1))
    assert Batch.get_by_id(batch_id).size == 1


def test_a_redelivery_costs_nothing(ledger: str) -> None:
    """A message that comes twice, or a worker that died in between, is no failure."""
    [write_id] = queue(1)
    for _ in range(5):
        assert [write.attempts for write in verification.begin([write_id])] == [1]
    joining.join([write_id], [], lane="normal", max_size=1, linger_seconds=0)
    for _ in range(5):
        assert batches.begin_attempt(Write.get_by_id(write_id).batch_id)
    assert seen(write_id) == ("active", 1)


@pytest.mark.parametrize(("seconds_ago", "counted"), [(1.5, 2), (0.5, 1)])
def test_a_delivery_after_a_death_is_counted(ledger: str, seconds_ago: float, counted: int) -> None:
    """Also where the dead worker's heartbeat was old already when it began; a double at once is not."""
    [write_id] = queue(1)
    verification.begin([write_id])
    Write.update(updated_at=time.time() - seconds_ago).execute()
    assert [write.deliveries for write in verification.begin([write_id])] == [counted]


def test_a_redelivery_of_a_retry_costs_nothing(ledger: str) -> None:
    """The second attempt is counted once, however often it begins."""
    [write_id] = queue(1)
    batch_id = batch_of([write_id])
    fail_batch(batch_id)
    time_passes()
    for _ in range(3):
        assert batches.begin_attempt(batch_id)
    assert seen(write_id) == ("active", 2)


def test_two_workers_at_one_batch(ledger: str) -> None:
    """Both chose it, both fail: that is one attempt, and nobody takes the next one before it is due."""
    [write_id] = queue(1)
    batch_id = batch_of([write_id])
    assert batches.begin_attempt(batch_id)
    assert batches.begin_attempt(batch_id)
    first = fail_batch(batch_id)
    due_at = Batch.get_by_id(batch_id).due_at
    assert first.retry_in_ms is not None
    assert fail_batch(batch_id) == FailedAttempt(None, None)
    assert not batches.begin_attempt(batch_id)
    assert Batch.get_by_id(batch_id).due_at == due_at
    assert seen(write_id) == ("delayed", 1)


@pytest.mark.parametrize("error", [HashMismatch("another"), TransactionReverted("status 0")])
def test_permanent_errors_are_dead_letters_at_once(ledger: str, error: PipelineError) -> None:
    """With one attempt, at either stage, and with the error in all three places."""
    first, second = queue(2)
    verification.begin([first])
    assert fail_verification([first], error).retry_in_ms is None
    assert fail_batch(batch_of([second]), error).retry_in_ms is None
    for letter in dead_letters.open_letters():
        assert (letter.attempts, letter.permanent, letter.error) == (1, True, error.code)
        found = status.status_of_credential(letter.credential_id)
        assert found["attempts"] == 1
        assert found["error"] == {
            "code": error.code,
            "message": error.message,
            "stage": letter.stage,
            "permanent": True,
        }
        own = Credential.get_by_id(letter.credential_id).metadata
        assert f"{error.code}: {error.message}" in own


def test_a_replay_has_all_attempts_again(ledger: str) -> None:
    """It starts at none."""
    [write_id] = queue(1)
    fail_batch(batch_of([write_id]), TransactionReverted("status 0"))
    dead_letters.requeue([write_id], resolution="replayed")
    assert seen(write_id) == ("waiting", 0)
    assert [write.attempts for write in verification.begin([write_id])] == [1]


def test_from_the_stored_intent_on_nothing_fails(ledger: str) -> None:
    """A batch that was submitted meanwhile keeps its members: only the chain can say that it failed."""
    [write_id] = queue(1)
    batch_id = batch_of([write_id])
    batches.begin_attempt(batch_id)
    assert batches.submit_mock(batch_id)
    assert fail_batch(batch_id, TransactionReverted("status 0")) == FailedAttempt(None, None)
    assert Write.get_by_id(write_id).state == State.VERIFIED
    assert Batch.get_by_id(batch_id).state == BatchState.SETTLED
    assert seen(write_id) == ("active", 1)


def test_backoff_has_jitter(ledger: str) -> None:
    """Not all writes of an outage come back in the same moment, and none outside the promised span."""
    ids = queue(40)
    delays = set()
    for write_id in ids:
        verification.begin([write_id])
        delays.add(fail_verification([write_id]).retry_in_ms)
    assert len(delays) > 20
    assert all(delay and 5000 <= delay <= 10_000 for delay in delays)

"""Promise: what has failed stays so until it is asked for again, and is told once for each cause."""

from __future__ import annotations

import time

from pipeline.errors import HashMismatch
from pipeline.ledger import batches, dead_letters, joining, retention, verification
from pipeline.models import Batch, State, Write
from tests.ledger import FAILING, REVERTED, UNREACHABLE, Rows, failed, queue, queued


def bury(rows: Rows) -> str | None:
    """Make the write a dead letter, as the first stage does."""
    return dead_letters.bury(
        [rows.write_id], HashMismatch("another"), state=State.QUEUED, stage="hash_verify"
    )


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
    joining.join(ids, [], lane="normal", max_size=9, linger_seconds=0)
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


def test_purged_failures_lose_their_dead_letters(ledger: str) -> None:
    """The row stays as a tombstone; a replay of it, by queueing it again, counts as failed no more."""
    rows = failed()
    assert len(list(retention.purge_failed(finished_before=time.time() + 1))) == 1
    assert dead_letters.open_letters() == []
    assert dead_letters.requeue([rows.write_id], resolution="queued again") == [rows.write_id]
    assert Write.get_by_id(rows.write_id).purged_at is None

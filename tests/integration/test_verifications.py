"""Promise: that a chunk's verification begins is noted once for all, and no death in it is forgotten."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipeline import retention
from pipeline.errors import HashMismatch
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, joining, queueing, verification
from pipeline.ledger.verification import Begun
from pipeline.models import BatchState, DeadLetter, State, Verification, Write
from tests.ledger import FAILING, UNREACHABLE, queue
from tests.racing import in_threads

pytestmark = pytest.mark.usefixtures("client")


def ids_of(begun: Begun) -> list[int]:
    """The writes that begin."""
    return [write.id for write in begun.writes]


def counted(write_id: int) -> tuple[int, int]:
    """Attempts and deliveries."""
    write = Write.get_by_id(write_id)
    return write.attempts, write.deliveries


def their_worker_died(seconds: float = 5) -> None:
    """What is noted was noted some time ago."""
    Verification.update(begun_at=time.time() - seconds).execute()


def join(ids: list[int]) -> None:
    """They have passed."""
    joining.join(ids, [], lane="normal", max_size=100, linger_seconds=0)


def test_one_row_for_all() -> None:
    """No write is changed before it has passed; then its first attempt is counted."""
    ids = queue(5)
    before = list(Write.select().order_by(Write.id).dicts())
    begun = verification.begin_first(ids)
    assert [(write.attempts, write.deliveries) for write in begun.writes] == [(1, 1)] * 5
    assert list(Write.select().order_by(Write.id).dicts()) == before
    assert Verification.select().count() == 1
    join(ids)
    assert begun.record is not None
    verification.end([begun.record])
    assert [counted(write_id) for write_id in ids] == [(1, 0)] * 5
    assert Verification.select().count() == 0


def test_a_second_delivery_meanwhile_leaves_them_alone() -> None:
    """Somebody is at them; what is not theirs begins."""
    ids = queue(5)
    verification.begin_first(ids[1:4])
    assert ids_of(verification.begin_first(ids)) == [ids[0], ids[4]]


def test_a_death_is_a_delivery_of_each() -> None:
    """They are left alone then, and begun once more by themselves: the third death is the last."""
    ids = queue(3)
    verification.begin_first(ids)
    their_worker_died()
    assert ids_of(verification.begin_first(ids)) == []
    assert [counted(write_id) for write_id in ids] == [(1, 1)] * 3
    assert verification.begun_before(ids) == (ids, [])
    for deliveries in (2, 3, 4):
        assert [write.deliveries for write in verification.begin(ids[:1])] == [deliveries]
        Write.update(updated_at=time.time() - 5).where(Write.id == ids[0]).execute()


def test_a_death_is_counted_once() -> None:
    """However many come to look."""
    ids = queue(3)
    verification.begin_first(ids)
    their_worker_died()
    for _ in range(3):
        verification.begin_first(ids)
    assert [counted(write_id) for write_id in ids] == [(1, 1)] * 3
    assert Verification.select().count() == 0


def test_who_comes_for_some_takes_no_others() -> None:
    """Of the others the next one counts it."""
    ids = queue(6)
    verification.begin_first(ids)
    their_worker_died()
    verification.begin_first(ids[1:3])
    assert [counted(write_id) for write_id in ids] == [(0, 0), (1, 1), (1, 1), (0, 0), (0, 0), (0, 0)]
    verification.begin_first(ids)
    assert [counted(write_id) for write_id in ids] == [(1, 1)] * 6


def test_a_record_that_outlived_its_work_says_nothing() -> None:
    """The worker died after the join: they are not queued any more."""
    ids = queue(2)
    verification.begin_first(ids)
    join(ids)
    their_worker_died()
    assert ids_of(verification.begin_first(ids)) == []
    assert [counted(write_id) for write_id in ids] == [(1, 0)] * 2
    assert Verification.select().count() == 0


def test_a_retry_begins_as_ever() -> None:
    """It is changed itself: its delay is over, its attempt is the second."""
    ids = queue(3)
    verification.begin_first(ids)
    verification.fail_attempt(ids[:1], UNREACHABLE, **FAILING)
    assert counted(ids[0]) == (1, 0)
    Verification.delete().execute()
    assert ids_of(verification.begin_first(ids)) == ids[1:]
    Write.update(due_at=time.time() - 1).where(Write.id == ids[0]).execute()
    [again] = verification.begin_first(ids[:1]).writes
    assert (again.id, again.attempts) == (ids[0], 2)
    assert counted(ids[0]) == (2, 1)


def test_one_that_fails_at_once_had_an_attempt(client: Any) -> None:
    """The dead letter says so, and the status."""
    from pipeline import verification as stage
    from pipeline.models import Credential

    [write_id] = queue(1)
    Credential.update(data_hash="ab" * 32).execute()
    stage.verify([write_id])
    [letter] = DeadLetter.select()
    assert (letter.error, letter.attempts) == (HashMismatch.__name__, 1)
    assert client.get_failed()[0]["attempts"] == 1
    assert Verification.select().count() == 0


def test_an_ended_one_leaves_no_record(client: Any) -> None:
    """Neither do those that have passed."""
    from pipeline import verification as stage

    ids = queue(300)
    stage.verify(ids)
    assert Write.select().where(Write.state == State.VERIFIED).count() == 300
    assert Verification.select().count() == 0


def test_what_nobody_came_back_for_is_purged(client: Any) -> None:
    """After a day; what is younger stays."""
    ids = queue(4)
    verification.begin_first(ids[:2])
    their_worker_died(90_000)
    verification.begin_first(ids[2:])
    retention.purge()
    assert [record.first_id for record in Verification.select()] == [ids[2]]


def test_a_clock_that_was_ahead_keeps_nobody_waiting() -> None:
    """Its machine died, or was set right: what it noted for an hour from now is a death, too."""
    ids = queue(3)
    verification.begin_first(ids)
    their_worker_died(-3600)
    assert ids_of(verification.begin_first(ids)) == []
    assert [counted(write_id) for write_id in ids] == [(1, 1)] * 3
    assert [write.deliveries for write in verification.begin(ids)] == [2] * 3


def test_two_who_come_for_parts_of_one_count_both() -> None:
    """Who finds that the other was faster looks again."""
    ids = queue(200)
    verification.begin_first(ids)
    their_worker_died()
    in_threads(8, lambda number: verification.begin_first(ids[number * 25 : (number + 1) * 25]))
    assert [counted(write_id) for write_id in ids] == [(1, 1)] * 200
    assert Verification.select().count() == 0


@pytest.mark.parametrize("max_size", [2, 100])
def test_made_urgent_while_it_is_verified(max_size: int) -> None:
    """Its batch is urgent, though it was begun as a normal one."""
    ids = queue(3)
    verification.begin_first(ids)
    names = [write.credential_id for write in Write.select().order_by(Write.id)]
    hashes = {write.credential_id: write.data_hash for write in Write.select()}
    queueing.queue([WriteRequest.of(names[1], hashes[names[1]], priority="urgent")])
    joining.join(ids, [], lane="normal", max_size=max_size, linger_seconds=0)
    [write] = Write.select().where(Write.credential_id == names[1])
    assert (write.priority, write.batch.lane, write.batch.state) == ("urgent", "urgent", BatchState.FULL)
    ready = batches.next_ready()
    assert ready is not None
    assert ready.id == write.batch_id

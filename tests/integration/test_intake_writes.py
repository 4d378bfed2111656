"""Promise: a credential has one write on its way, whichever way it is handed in, and however often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import ConflictingWrite
from pipeline.ledger import batches, dead_letters, joining, verification
from pipeline.models import DeadLetter, State, Write
from tests.intake import (
    CID,
    HASH,
    OTHER_HASH,
    WAYS,
    fail,
    finish,
    insert_row,
    messages,
    metadata_of,
    queue_by,
    writes,
)
from tests.ledger import UNREACHABLE

# --- one write ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_write_is_a_row_and_a_message(credential: str, redis_url: str, way: str) -> None:
    """The row is queued with its job id; the credential says pending; one message is there."""
    job_id = queue_by(way, credential, "0x" + HASH.upper(), CID)
    [write] = writes()
    assert (write.job_id, write.state, write.attempts) == (job_id, State.QUEUED, 0)
    assert (write.data_hash, write.ipfs_cid, write.priority) == (HASH, CID, "normal")
    assert metadata_of(credential) == {"blockchain_status": "pending"}
    [message] = messages(redis_url)
    if way == "many":
        assert message["args"] == [[write.id]]
    else:
        assert message["args"] == [credential, HASH, CID]
        assert message["message_id"] == job_id


def test_a_delayed_write_is_not_due(credential: str, redis_url: str) -> None:
    """The row knows the delay; a first try that is due later counts as delayed, with no attempt."""
    from pipeline import client
    from pipeline.actors import hash_verify

    before = time.time()
    hash_verify.send_with_options(args=(credential, HASH), delay=60_000)
    [write] = writes()
    assert before + 60 <= write.due_at <= time.time() + 60
    assert verification.begin([write.id]) == []
    status = client.get_blockchain_write_status(credential)
    assert (status["status"], status["attempts"]) == ("delayed", 0)


def test_urgent_has_a_queue_of_its_own(credential: str, redis_url: str) -> None:
    """It overtakes any backlog, so it does not stand in it."""
    from pipeline.actors import hash_verify

    hash_verify.send_with_options(args=(credential, HASH), priority="urgent")
    assert len(messages(redis_url, "urgent")) == 1
    assert messages(redis_url) == []
    assert writes()[0].priority == "urgent"


# --- the same again ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cid", [None, CID])
def test_the_same_again_while_pending(credential: str, redis_url: str, way: str, cid: str | None) -> None:
    """Same credential, hash and CID: same job id, one write, no second message; spelling is no difference."""
    first = queue_by("send", credential, HASH, cid)
    assert queue_by(way, credential, "0x" + HASH.upper(), cid) == first
    assert len(writes()) == 1
    assert len(messages(redis_url)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_same_again_when_completed(credential: str, redis_url: str, way: str) -> None:
    """It is anchored already: the job id of then, and nothing to do."""
    first = queue_by("send", credential, HASH)
    finish(credential)
    assert queue_by(way, credential, HASH) == first
    [write] = writes()
    assert write.state == State.CONFIRMED
    assert metadata_of(credential)["blockchain_status"] == "confirmed"
    assert len(messages(redis_url)) == 1


def test_purged_is_still_completed(client: Any, credential: str) -> None:
    """A tombstone answers on: the same again is no second write."""
    from tests.ledger import purge_completed

    first = client.write_to_blockchain_queued(credential, HASH)
    finish(credential)
    assert purge_completed(finished_before=time.time() + 1) == [first]
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert len(writes()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_same_again_when_failed_is_a_replay(credential: str, redis_url: str, way: str) -> None:
    """The old job id, attempts anew, the dead letter resolved, pending again, one more message."""
    first = queue_by("send", credential, HASH)
    verification.begin([writes()[0].id])
    fail(credential)
    assert metadata_of(credential)["blockchain_status"] == "failed"
    assert queue_by(way, credential, HASH) == first
    [write] = writes()
    assert (write.state, write.attempts, write.error_code) == (State.QUEUED, 0, None)
    assert metadata_of(credential) == {"blockchain_status": "pending"}
    assert dead_letters.open_letters() == []
    assert len(messages(redis_url)) == 2


def test_urgent_upgrades_a_queued_write(credential: str, redis_url: str) -> None:
    """Same job; its row and a new message are urgent. Normal does not take that back."""
    from pipeline import client

    first = client.write_to_blockchain_queued(credential, HASH)
    assert client.write_to_blockchain_queued(credential, HASH, priority="urgent") == first
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert [write.priority for write in writes()] == ["urgent"]
    assert len(messages(redis_url, "urgent")) == 1


def test_urgent_upgrades_a_verified_write(credential: str, redis_url: str) -> None:
    """The batch that holds it moves to the urgent lane; a new normal one can be opened."""
    from pipeline import client

    insert_row("c2")
    client.write_many_to_blockchain_queued([(credential, HASH), ("c2", HASH)])
    first, second = writes()
    verification.begin([first.id, second.id])
    joining.join([first.id], [], lane="normal", max_size=10, linger_seconds=0)
    client.write_to_blockchain_queued(credential, HASH, priority="urgent")
    upgraded = batches.next_ready()
    assert upgraded is not None
    assert upgraded.lane == "urgent"
    joining.join([second.id], [], lane="normal", max_size=10, linger_seconds=0)
    assert Write.get_by_id(second.id).batch_id != upgraded.id


def test_twice_in_one_list(client: Any, credential: str, redis_url: str) -> None:
    """One job for both, and the more urgent of the two counts, whichever comes first."""
    insert_row("c2")
    items = [(credential, HASH), (credential, HASH, None, "urgent")]
    items += [("c2", HASH, None, "urgent"), ("c2", HASH, None, "normal")]
    jobs = client.write_many_to_blockchain_queued(items)
    assert jobs[0] == jobs[1]
    assert jobs[2] == jobs[3]
    assert [(write.job_id, write.priority) for write in writes()] == [
        (jobs[0], "urgent"),
        (jobs[2], "urgent"),
    ]
    ids = [write.id for write in writes()]
    assert [message["args"] for message in messages(redis_url, "urgent")] == [[ids]]
    assert messages(redis_url) == []


# --- something else of the same credential -----------------------------------------------------

OTHERS = [(OTHER_HASH, None), (HASH, CID), (OTHER_HASH, CID)]


@pytest.mark.parametrize("way", WAYS)
def test_another_while_pending_conflicts(credential: str, redis_url: str, way: str) -> None:
    """Another hash or CID has to wait; the error names the job that is pending, and nothing changes."""
    first = queue_by("send", credential, HASH)
    for data_hash, cid in OTHERS:
        with pytest.raises(ConflictingWrite, match=first):
            queue_by(way, credential, data_hash, cid)
    assert [write.job_id for write in writes()] == [first]
    assert len(messages(redis_url)) == 1


@pytest.mark.parametrize("end", [finish, fail])
@pytest.mark.parametrize(("data_hash", "cid"), OTHERS)
def test_another_afterwards_is_a_new_job(
    client: Any, credential: str, data_hash: str, cid: str | None, end: Callable[[str], None]
) -> None:
    """Once the first is through, another is a job of its own, which the status shows."""
    first = client.write_to_blockchain_queued(credential, HASH)
    end(credential)
    second = client.write_to_blockchain_queued(credential, data_hash, cid)
    assert second != first
    status = client.get_blockchain_write_status(credential)
    assert (status["job_id"], status["data_hash"], status["ipfs_cid"]) == (second, data_hash, cid)
    assert metadata_of(credential) == {"blockchain_status": "pending"}


def test_a_failed_job_that_a_new_one_has_overtaken(client: Any, credential: str) -> None:
    """Its dead letter is closed: replaying it would queue a second write, of outdated content."""
    client.write_to_blockchain_queued(credential, HASH)
    fail(credential)
    client.write_to_blockchain_queued(credential, OTHER_HASH)
    assert dead_letters.open_letters() == []
    assert [letter.resolution for letter in DeadLetter.select()] == ["superseded"]
    assert dead_letters.requeue([writes()[0].id], resolution="replayed") == []


def test_back_to_a_failed_one(client: Any, credential: str) -> None:
    """Asked for again by the issuer, a failed job is replayed although another came after it."""
    first = client.write_to_blockchain_queued(credential, HASH)
    fail(credential)
    client.write_to_blockchain_queued(credential, OTHER_HASH)
    with pytest.raises(ConflictingWrite):
        client.write_to_blockchain_queued(credential, HASH)
    finish(credential)
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert Write.get(Write.job_id == first).state == State.QUEUED
    assert client.get_blockchain_write_status(credential)["job_id"] == first
    finish(credential)
    assert client.get_blockchain_write_status(credential)["job_id"] == first


def test_a_replay_can_be_delayed(credential: str, redis_url: str) -> None:
    """As a first try can."""
    from pipeline.actors import hash_verify

    hash_verify.send(credential, HASH)
    fail(credential)
    hash_verify.send_with_options(args=(credential, HASH), delay=60_000)
    [write] = writes()
    assert write.state == State.QUEUED
    assert write.due_at == write.sent_at > time.time() + 50
    assert verification.begin([write.id]) == []


def test_what_was_asked_for_last_is_what_an_outage_is_followed_by(credential: str, redis_url: str) -> None:
    """A is anchored, B has failed, A is asked for again: B does not come back by itself."""
    from pipeline.actors import hash_verify

    hash_verify.send(credential, HASH)
    finish(credential)
    hash_verify.send(credential, OTHER_HASH)
    [other] = Write.select().where(Write.data_hash == OTHER_HASH)
    dead_letters.bury([other.id], UNREACHABLE, state=State.QUEUED, stage="chain_write")
    assert dead_letters.replayable_after_outage(10) == [other.id]
    hash_verify.send(credential, HASH)
    assert dead_letters.replayable_after_outage(10) == []
    assert [letter.resolution for letter in DeadLetter.select()] == [dead_letters.SUPERSEDED]

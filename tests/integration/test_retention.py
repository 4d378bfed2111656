"""Promise: what has ended and is old leaves counts, lists, timeline and Redis; it can still be asked for and
proved."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

import pipeline.actors  # noqa: F401 - results go through the broker
from pipeline import completion, retention, verification
from pipeline.anchors import receipt_of
from pipeline.ledger import dead_letters
from pipeline.merkle import leaf_hash, verify
from pipeline.models import DeadLetter, Journal, Write
from tests.issuer import queue_documents
from tests.ledger import STATES, confirmed, everything, failed, purge, purge_completed

DAY = 86_400.0


@pytest.fixture
def thousand_and_one(client: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As many mock writes, completed one after the other; the credentials' names."""
    from pipeline import chain_writing
    from pipeline.models import Batch
    from pipeline.settings import get_settings

    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    get_settings.cache_clear()
    queue_documents(1001)
    while ids := [row.id for row in Write.select(Write.id).where(Write.state == "queued")]:
        verification.verify(ids)
    while chain_writing.write_next():
        pass
    for batch in Batch.select().where(Batch.state == "settled"):
        completion.complete(batch.id)
    now = time.time()
    Write.update(finished_at=now - 2000 + Write.id).execute()
    return [row.credential_id for row in Write.select().order_by(Write.finished_at)]


def removed() -> tuple[int, int]:
    """What a purge has removed."""
    found = retention.purge()
    return found.completed_removed, found.failed_removed


def test_beyond_the_newest_thousand(client: Any, thousand_and_one: list[str]) -> None:
    """One of 1,001; it is completed all the same, its proof is served, and a repeat is the same job."""
    oldest = thousand_and_one[0]
    job_id = Write.get(Write.credential_id == oldest).job_id
    assert removed() == (1, 0)
    assert removed() == (0, 0)
    assert client.get_job_counts()["completed"] == 1000
    assert client.get_completed(0, 1)[0]["credential_id"] == thousand_and_one[1]
    status = client.get_blockchain_write_status(oldest)
    assert status["status"] == "completed"
    proof = [bytes.fromhex(sibling[2:]) for sibling in status["result"]["merkle_proof"]]
    leaf, root = (bytes.fromhex(status["result"][key][2:]) for key in ("leaf", "merkle_root"))
    assert verify(root, leaf, proof)
    assert receipt_of(oldest)["leaf"] == status["result"]["leaf"]
    write = Write.get(Write.credential_id == oldest)
    assert bytes(write.leaf) == leaf_hash(oldest, bytes.fromhex(write.data_hash), "", bytes(write.salt))
    assert client.write_to_blockchain_queued(oldest, write.data_hash) == job_id
    assert client.get_job_counts()["completed"] == 1000


def test_a_day_and_a_week(client: Any, thousand_and_one: list[str]) -> None:
    """Completed 24 h ago: gone, 23 h: there. Failed 8 days ago: gone with its dead letter, 6 days: there."""
    now = time.time()
    young, old = (failed() for _ in range(2))
    for credential_id, age in ((thousand_and_one[1000], DAY), (thousand_and_one[999], DAY - 3600)):
        Write.update(finished_at=now - age - 1).where(Write.credential_id == credential_id).execute()
    for rows, days in ((young, 6), (old, 8)):
        Write.update(finished_at=now - days * DAY).where(Write.id == rows.write_id).execute()
    completed, dead = removed()
    assert (completed, dead) == (1, 1)
    names = {job["credential_id"] for job in client.get_completed(0, 2000)}
    assert thousand_and_one[1000] not in names
    assert thousand_and_one[999] in names
    assert [letter.write_id for letter in dead_letters.open_letters()] == [young.write_id]
    assert Journal.select().where(Journal.write_id == old.write_id).count() == 0
    gone = Write.get_by_id(old.write_id)
    assert client.get_blockchain_write_status(gone.credential_id)["status"] == "failed"
    assert client.get_job_counts()["failed"] == 1


def test_results_leave_redis(client: Any, redis_url: str) -> None:
    """With the job; a late or second scheduler's purge finds nothing more to do."""
    rows = failed()
    job_id = Write.get_by_id(rows.write_id).job_id
    completion.keep_results({job_id: ValueError("dead")}, ttl_ms=60_000)
    Write.update(finished_at=1.0).execute()
    with redis.Redis.from_url(redis_url) as connection:
        assert len(connection.keys("dramatiq-results:*")) == 1
        assert removed() == (0, 1)
        assert connection.keys("dramatiq-results:*") == []
    assert removed() == (0, 0)
    assert DeadLetter.select().count() == 0


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

"""Promise: urgent work overtakes any backlog, and what an operator does twice happens once."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Workers
from pipeline.models import Credential, DeadLetter, Journal, Transaction, Write
from pipeline.settings import get_settings
from tests.issuer import chain_variables, completed, document, queue_documents
from tests.racing import in_threads
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.truth import assert_truthful
from tests.waiting import until


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_urgent_overtakes_a_backlog(
    client: Any, start: Callable[..., Workers], anvil: Anvil, full_size: bool
) -> None:
    """Sent within 3 s, behind 10,000 single writes at the default limit."""
    from pipeline.credentials import issue

    backlog = 10_000 if full_size else 2_000
    start(batch_max_size=1, **chain_variables(anvil))
    queue_documents(backlog)
    until(lambda: Transaction.select().count() >= 5, seconds=60, what="the limit is in use")
    began = time.time()
    issue("urgent", document(backlog), priority="urgent")
    sent = (
        Transaction.select()
        .join(Write, on=(Write.batch == Transaction.batch))
        .where(Write.credential_id == "urgent", Transaction.sent_at.is_null(False))
    )
    until(lambda: sent.count() == 1, seconds=20, what="sent")
    assert sent.get().sent_at - began < 3
    assert client.get_job_counts()["completed"] < backlog


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_replayed_ten_times_and_while_it_runs(
    client: Any, start: Callable[..., Workers], anvil: Anvil
) -> None:
    """One anchor each, one line in the audit trail each."""
    from pipeline import deadletters

    variables = chain_variables(anvil)
    anvil.stop()
    start(**variables, batch_max_size=1, retry_max_attempts=1, dead_letter_auto_replay="false")
    queue_documents(5)
    until(lambda: DeadLetter.select().count() == 5, seconds=30, what="five dead letters")
    anvil.start()
    assert chain_variables(anvil) == variables

    def replay(_: int) -> int:
        replayed = 0
        deadline = time.monotonic() + 30
        while client.get_job_counts()["completed"] < 5 and time.monotonic() < deadline:
            replayed += deadletters.replay_all()
        return replayed

    replayed = in_threads(10, replay)
    assert sum(count for count in replayed if isinstance(count, int)) == 5
    assert client.get_job_counts()["completed"] == 5
    assert Journal.select().where(Journal.event == "replayed").count() == 5
    assert Transaction.select().count() == 5
    assert_truthful(anvil, variables)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_committed_while_redis_is_down(
    client: Any, start: Callable[..., Workers], start_valkey: Callable[..., ValkeyServer], monkeypatch: Any
) -> None:
    """What is committed is completed once Redis is back; of what is rolled back nothing ever happens."""
    from pipeline.actors import hash_verify
    from pipeline.credentials import issue
    from pipeline.database import database

    server = start_valkey()
    monkeypatch.setenv("REDIS_URL", server.url)
    get_settings.cache_clear()
    client.shutdown_blockchain_queue()
    start(blockchain_mock_enabled="true")
    server.kill()
    with database.atomic():
        issue("kept", document(1))
        hash_verify.send("kept", Credential.get_by_id("kept").data_hash)
    with database.atomic() as transaction:
        issue("gone", document(2))
        transaction.rollback()
    server.start()
    until(completed(client, 1), seconds=30, what="completed")
    assert [row.credential_id for row in Write.select()] == ["kept"]
    assert Credential.select().where(Credential.id == "gone").count() == 0


#: From which status a poller may see which next, without looking away for longer than a moment.
LEGAL = {
    "waiting": {"active", "delayed", "completed", "failed"},
    "active": {"delayed", "completed", "failed"},
    "delayed": {"active", "completed", "failed"},
    "failed": {"waiting", "active", "delayed", "completed"},  # by a replay
    "completed": set[str](),
}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_status_that_is_seen_is_a_legal_one(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
) -> None:
    """While the node is lost and comes back, and a worker is killed: attempts never fall but by a replay."""
    from pipeline.deadletters import replay

    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    workers = start(
        **variables,
        batch_max_size=1,
        rate_limit_max=4,
        retry_min_backoff_ms=300,
        dead_letter_auto_replay="false",
    )
    seen: dict[str, list[tuple[str, int]]] = {}

    def all_are(count: int, *statuses: str) -> Callable[[], bool]:
        def hold() -> bool:
            for name in [row.credential_id for row in Write.select(Write.credential_id)]:
                found = client.get_blockchain_write_status(name)
                assert (found["result"] is not None) == (found["status"] == "completed")
                assert (found["error"] is not None) == (found["status"] == "failed")
                history = seen.setdefault(name, [])
                if history[-1:] != [(found["status"], found["attempts"])]:
                    history.append((found["status"], found["attempts"]))
            return sum(history[-1][0] in statuses for history in seen.values()) >= count

        return hold

    def all_are_completed() -> bool:
        is_so = all_are(10, "completed")()
        # Only what was seen failed: what fails and is replayed between two looks is seen by nobody.
        failed = [name for name, history in seen.items() if history[-1][0] == "failed"]
        assert replay(failed) == len(failed)
        return is_so

    queue_documents(4)
    until(all_are(1, "completed"), seconds=30, what="one is completed")
    proxy.down = True
    queue_documents(6, start=4)
    workers.kill()
    workers.start()
    until(all_are(3, "delayed", "failed"), seconds=60, what="three have failed once")
    proxy.down = False
    until(all_are_completed, seconds=60, what="all are completed")
    for history in seen.values():
        for (before, attempts), (after, more) in pairwise(history):
            assert after == before or after in LEGAL[before], history
            assert more >= attempts or before == "failed", history

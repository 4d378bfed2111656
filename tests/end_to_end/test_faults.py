"""Promise: a fault costs time, never a credential, and the status tells the truth meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pipeline.embedded.workers import Workers
from pipeline.models import Credential, DeadLetter, Transaction, Write
from pipeline.settings import get_settings
from tests.issuer import chain_variables, completed, document
from tests.servers.anvil import Anvil
from tests.servers.kent import Kent
from tests.truth import assert_truthful
from tests.waiting import until


@pytest.mark.one_database
def test_a_wrong_hash_fails_alone(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """99 completed, one failed with one attempt, one dead letter, one Sentry event, no retry."""
    from pipeline.credentials import sync

    items = [{"credential_id": f"c{n}", "document": document(n)} for n in range(100)]
    variables = chain_variables(anvil)
    workers = start(sentry_dsn=kent.dsn, **variables)
    workers.stop()
    sync(items)
    Credential.update(document=json.dumps(document(1000))).where(Credential.id == "c7").execute()
    workers.start()
    until(completed(client, 99), seconds=60, what="99 completed")
    until(lambda: client.get_job_counts()["failed"] == 1, seconds=10, what="one failed")
    [failed] = client.get_failed()
    assert (failed["credential_id"], failed["attempts"]) == ("c7", 1)
    assert failed["error"]["code"] == "HashMismatch"
    assert json.loads(Credential.get_by_id("c7").metadata)["blockchain_error"].startswith("HashMismatch")
    assert DeadLetter.select().count() == 1
    [event] = kent.wait_for(1)
    assert "c7" in json.dumps(event)
    assert_truthful(anvil, variables)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_node_is_down(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """Three attempts with growing gaps, then failed; once the node is back a replay completes it."""
    from pipeline.credentials import issue
    from pipeline.deadletters import replay_all

    variables = chain_variables(anvil)
    anvil.stop()
    start(dead_letter_auto_replay="false", **variables)
    issue("c1", document(1))
    seen: dict[int, float] = {}

    def is_failed() -> bool:
        found = client.get_blockchain_write_status("c1")
        if found["status"] == "delayed":
            seen.setdefault(found["attempts"], Write.get(Write.credential_id == "c1").updated_at)
        return bool(found["status"] == "failed")

    until(is_failed, seconds=60, what="failed")
    found = client.get_blockchain_write_status("c1")
    assert found["attempts"] == 3
    assert found["error"]["code"] == "NodeUnreachable"
    failed_at = Write.get(Write.credential_id == "c1").finished_at
    assert 5 <= seen[2] - seen[1] <= 11
    assert 10 <= failed_at - seen[2] <= 25
    anvil.start()
    # The chain began anew: the same registry is deployed again, at the address that settings name.
    assert chain_variables(anvil) == variables
    assert replay_all() == 1
    until(completed(client, 1), seconds=30, what="completed")
    assert_truthful(anvil, variables)


def test_sigterm_and_flushall(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """SIGTERM with 500 queued, then a wiped Redis: all 500 are completed, none twice."""
    from pipeline.credentials import sync

    variables = chain_variables(anvil)
    workers = start(**variables, batch_max_size=50)
    sync([{"credential_id": f"c{n}", "document": document(n)} for n in range(500)])
    workers.terminate()
    workers.wait(15)
    with redis.Redis.from_url(get_settings().redis_dsn) as connection:
        connection.flushall()
    workers.stop()
    workers.start()
    until(completed(client, 500), seconds=60, what="500 completed")
    # Nothing is in the way of a transaction here: a batch that has two was signed twice.
    assert Transaction.select().count() == len({row.batch_id for row in Transaction.select()})
    assert_truthful(anvil, variables)


@pytest.mark.one_database
def test_an_outage_heals_by_itself(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """What an outage has killed is one alert for the batch, and is replayed once the node answers."""
    from pipeline.credentials import sync

    variables = chain_variables(anvil)
    anvil.stop()
    start(retry_max_attempts=1, sentry_dsn=kent.dsn, **variables)
    sync([{"credential_id": f"c{n}", "document": document(n)} for n in range(20)])
    until(lambda: client.get_job_counts()["failed"] == 20, seconds=30, what="20 failed")
    [event] = kent.wait_for(1)
    assert event["tags"]["count"] == "20"
    anvil.start()
    assert chain_variables(anvil) == variables
    until(completed(client, 20), seconds=30, what="20 completed")
    assert len(kent.events()) == 1
    assert_truthful(anvil, variables)

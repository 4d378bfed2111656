"""Promise: a file of credentials goes in, and each is on the chain once, with its result for who asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis

from pipeline.embedded.workers import Workers
from pipeline.hashing import document_hash
from pipeline.models import Credential, State, Write
from pipeline.settings import get_settings
from tests.issuer import chain_variables, document
from tests.servers.anvil import Anvil
from tests.truth import assert_truthful
from tests.waiting import until


def run_command(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``credential-pipeline`` with this process's settings."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=dict(os.environ))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_file_of_a_thousand(
    client: Any, start: Callable[..., Workers], anvil: Anvil, tmp_path: Path
) -> None:
    """1,000 lines, two worker processes: all completed, each hash in one leaf, each leaf under one root."""
    lines = [json.dumps({"credential_id": f"c{n}", "document": document(n)}) for n in range(1000)]
    file = tmp_path / "credentials.jsonl"
    file.write_text("\n".join(lines))
    variables = chain_variables(anvil)
    start(processes=2, **variables)
    queued = run_command("enqueue", str(file), "--json")
    assert queued.returncode == 0, queued.stderr
    assert json.loads(queued.stdout)["queued"] == 1000
    waited = run_command("wait", "--timeout", "60", "--json", timeout=90)
    assert json.loads(waited.stdout) == {"completed": 1000, "failed": 0, "pending": 0}
    anchored = [write.data_hash for write in Write.select().where(Write.state == State.CONFIRMED)]
    assert sorted(anchored) == sorted(document_hash(document(n)) for n in range(1000))
    assert_truthful(anvil, variables)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_message_has_the_jobs_result(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """``get_result`` waits for the end of the job, and a purge takes the result out of Redis."""
    from pipeline.actors import hash_verify
    from pipeline.credentials import sync
    from pipeline.retention import purge

    workers = start(result_completed_max_count=1, **chain_variables(anvil))
    sync([{"credential_id": "c1", "document": document(1)}])
    until(lambda: client.get_job_counts()["completed"] == 1, seconds=20, what="c1 completed")
    Credential.create(id="c2", document=json.dumps(document(2)), metadata='{"own": 1}')
    message = hash_verify.send("c2", document_hash(document(2)), None)
    result = message.get_result(block=True, timeout=20_000)
    status = client.get_blockchain_write_status("c2")
    assert status["job_id"] == message.message_id
    assert status["result"] == result
    assert json.loads(Credential.get_by_id("c2").metadata)["own"] == 1
    assert hash_verify.send("c2", "0x" + document_hash(document(2))).message_id == message.message_id
    workers.stop()
    assert purge().completed_removed == 1
    assert client.get_blockchain_write_status("c1")["status"] == "completed"
    assert client.get_job_counts()["completed"] == 1
    with redis.Redis.from_url(get_settings().redis_dsn) as connection:
        assert len(list(connection.scan_iter("dramatiq-results:*"))) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_message_that_nobody_checked(client: Any, start: Callable[..., Workers]) -> None:
    """What did not come through `.send()` and is wrong is a dead letter at once, with one attempt."""
    from pipeline.actors import broker
    from pipeline.deadletters import listed

    start(blockchain_mock_enabled="true")
    for arguments in (("nobody", "ab" * 32, None), ("c1", "not a hash", None)):
        broker.enqueue(
            dramatiq.Message(
                queue_name="hash_verify", actor_name="hash_verify", args=arguments, kwargs={}, options={}
            )
        )
    until(lambda: len(listed()) == 2, seconds=10, what="two dead letters")
    assert {letter["error"] for letter in listed()} == {"UnknownCredential", "InvalidDataHash"}
    assert {letter["attempts"] for letter in listed()} == {1}


def test_importing_the_actors_is_cheap(tmp_path: Path) -> None:
    """No web3, no connection, and less than 0.6 s: an issuer's API imports them."""
    code = (
        "import socket, sys, time; start = time.perf_counter();"
        "socket.socket.connect = None;"
        "import pipeline.actors; print(time.perf_counter() - start);"
        "assert not {'web3', 'redis', 'peewee', 'sentry_sdk'} & set(sys.modules)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.6

"""Promise: whatever becomes of a worker, its work goes on soon, and nothing is written twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.actors import broker, hash_verify_many
from pipeline.embedded.workers import Workers
from pipeline.models import Lease, Transaction, Write
from pipeline.queues import HEARTBEAT_TIMEOUT_MS
from tests import ledger
from tests.issuer import chain_variables, completed, document, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Fault
from tests.truth import assert_truthful
from tests.waiting import until
from tests.workers import nothing_is_unacked, stopped

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

#: A chain write is in the middle when its fees are asked for, and nothing is stored yet.
BEFORE_THE_INTENT = "eth_feeHistory"

#: It is in the middle, too, when the node has the bytes, and the worker does not know.
AFTER_THE_BROADCAST = "eth_sendRawTransaction"

#: Seconds after which a container that was told to end is killed: the shortest in compose.yaml.
GRACE_SECONDS = 30

HOUR_MS = 3_600_000


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """Before the node."""
    return start_fault_proxy(anvil.rpc_url)


@pytest.fixture
def variables(anvil: Anvil, proxy: FaultProxy) -> dict[str, object]:
    """Settings for a registry behind the proxy."""
    return chain_variables(anvil, rpc_url=proxy.url)


@pytest.fixture
def begin(
    client: Any, start: Callable[..., Workers], proxy: FaultProxy, variables: dict[str, object]
) -> Callable[[str], tuple[Workers, Fault]]:
    """Start workers with one credential, and return when the node's reply to its chain write is held."""

    def run(method: str) -> tuple[Workers, Fault]:
        workers = start(**variables)
        held = proxy.hold_reply(method)
        queue_documents(1)
        assert held.happened.wait(30)
        return workers, held

    return run


def test_a_killed_worker_that_is_started_again(
    client: Any,
    begin: Callable[[str], tuple[Workers, Fault]],
    anvil: Anvil,
    variables: dict[str, object],
    redis_url: str,
) -> None:
    """With one message under way and nothing else to do: done within ten seconds of the restart."""
    workers, _ = begin(BEFORE_THE_INTENT)
    workers.kill()
    workers.start()
    until(completed(client, 1), seconds=10, what="completed")
    until(nothing_is_unacked(redis_url), seconds=10, what="nothing is unacked")
    assert Transaction.select().count() == 1
    assert_truthful(anvil, variables)


def test_a_killed_worker_that_is_not_started_again(
    client: Any,
    begin: Callable[[str], tuple[Workers, Fault]],
    start: Callable[..., Workers],
    anvil: Anvil,
    variables: dict[str, object],
) -> None:
    """Other workers, who have nothing to do, are through with its work within ten seconds."""
    workers, _ = begin(BEFORE_THE_INTENT)
    start()
    workers.kill()
    until(completed(client, 1), seconds=10, what="completed")
    assert Transaction.select().count() == 1
    assert_truthful(anvil, variables)


@pytest.mark.parametrize("method", [BEFORE_THE_INTENT, AFTER_THE_BROADCAST])
def test_a_worker_stands_still_in_a_chain_write(
    client: Any,
    begin: Callable[[str], tuple[Workers, Fault]],
    start: Callable[..., Workers],
    anvil: Anvil,
    variables: dict[str, object],
    method: str,
) -> None:
    """Another one completes it meanwhile; what the first one does when it wakes changes nothing."""
    workers, held = begin(method)
    until(Lease.select().exists, seconds=10, what="the sweeps are its own, too")
    with stopped(workers):
        start()
        until(completed(client, 1), seconds=20, what="completed by the others")
        held.end()
    assert workers.stop() == 0  # it has ended what it was at
    assert Transaction.select().count() == 1
    assert client.get_job_counts()["completed"] == 1
    assert Write.get().attempts == 1
    assert_truthful(anvil, variables)


@pytest.mark.parametrize(
    ("method", "answered"),
    [(BEFORE_THE_INTENT, True), (AFTER_THE_BROADCAST, False)],
)
def test_sigterm_in_a_chain_write(
    client: Any,
    begin: Callable[[str], tuple[Workers, Fault]],
    anvil: Anvil,
    variables: dict[str, object],
    redis_url: str,
    method: str,
    answered: bool,
) -> None:
    """It ends in time, whether or not the node answers, and leaves nothing that others would wait for."""
    workers, held = begin(method)
    workers.terminate()
    if answered:
        until(lambda: "Shutting down..." in workers.log(), seconds=10, what="it is told to end")
        held.end()
    assert workers.wait(GRACE_SECONDS) == 0
    signed = [row.hash for row in Transaction.select()]
    assert len(signed) == 1
    seconds = HEARTBEAT_TIMEOUT_MS / 1000
    until(nothing_is_unacked(redis_url), seconds=seconds, what="nothing is unacked")
    workers.stop()
    workers.start()
    until(completed(client, 1), seconds=20, what="completed")
    assert [row.hash for row in Transaction.select()] == signed
    assert_truthful(anvil, variables)


def test_a_retry_overtakes_what_is_delayed_for_longer(
    client: Any, start_workers: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch, full_size: bool
) -> None:
    """More are an hour away than a worker process would fetch: the near one runs on time."""
    from pipeline.credentials import issue

    count, threads = (10_000, 5) if full_size else (1500, 1)
    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    monkeypatch.setenv("RETRY_MIN_BACKOFF_MS", "5000" if full_size else "2000")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    start_workers(environment=environment, roster="tests.end_to_end.rosters.deadly", threads=threads)
    far = ledger.queue(count, prefix="far")
    Write.update(due_at=time.time() + HOUR_MS / 1000).execute()
    for write_id in far:
        broker.enqueue(hash_verify_many.message([write_id]), delay=HOUR_MS)
    issue("near", {**document(1), "holder": "unforeseen"})
    near = Write.select().where(Write.credential_id == "near")
    until(lambda: near.get().due_at is not None, seconds=10, what="the first attempt has failed")
    due_at = near.get().due_at
    until(lambda: near.get().attempts == 2, seconds=due_at - time.time() + 3, what="the retry is on time")
    assert time.time() >= due_at
    assert Write.select().where(Write.attempts == 0).count() == count

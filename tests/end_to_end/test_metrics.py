"""Promise: the counters of two worker processes add up to the truth, also when one was killed; no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pipeline.broker import broker
from pipeline.embedded.workers import Workers
from pipeline.ledger import control
from pipeline.metrics import exposition
from pipeline.metrics.catalogue import STAGES
from pipeline.models import Credential, Write
from tests.databases import on_postgresql
from tests.integration.test_metrics import scrape
from tests.issuer import chain_variables, completed, document, queue_documents
from tests.servers.anvil import Anvil
from tests.waiting import until


def attempts() -> list[float]:
    """How many have succeeded, by stage."""
    found = scrape()
    return [found[f"pipeline_attempts_total{{outcome=succeeded,stage={stage}}}"] for stage in STAGES]


@on_postgresql
def test_two_processes_and_a_kill(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """50 credentials of which two fail, then -9, a restart, and 50 more."""
    variables = chain_variables(anvil, rpc_url=f"{anvil.rpc_url}/?token=CANARY-TOKEN")
    queue_documents(50)
    wrong = json.dumps(document(1000) | {"holder": "CANARY-HOLDER"})
    Credential.update(document=wrong).where(Credential.id.in_(["c7", "c8"])).execute()
    workers = start(processes=2, **variables)
    until(completed(client, 48), seconds=60, what="48 completed")
    until(lambda: attempts() == [48] * 4, seconds=20, what="48 are counted")
    workers.kill()
    assert attempts() == [48] * 4, "a kill takes nothing away that was delivered"
    workers.start()
    queue_documents(50, start=50)
    until(completed(client, 98), seconds=60, what="98 completed")
    until(lambda: attempts() == [98] * 4, seconds=20, what="98 are counted")
    reconciled = "pipeline_last_success_timestamp_seconds{sweep=reconcile}"
    until(lambda: reconciled in scrape(), seconds=20, what="a sweep that reconciles")
    found = scrape()
    assert found["pipeline_attempts_total{outcome=failed,stage=hash_verify}"] == 2
    assert found["pipeline_dead_letters_total{error=HashMismatch,stage=hash_verify}"] == 2
    assert found["pipeline_end_to_end_seconds_count"] == found["pipeline_batch_size_credentials_sum"] == 98
    assert found["pipeline_rpc_calls_total{method=eth_sendRawTransaction,outcome=ok}"] >= 2
    assert found["pipeline_limiter_slots_total"] >= 2
    assert found["pipeline_worker_processes"] in (2, 3, 4), "those that were killed count for a little longer"
    assert found["pipeline_head_block_number"] >= 2
    assert found["pipeline_last_success_timestamp_seconds{sweep=settle}"] > Write.get_by_id(1).queued_at
    assert found[reconciled] > Write.get_by_id(1).queued_at
    body = exposition.render()[0].decode()
    canaries = ("CANARY", str(variables["blockchain_private_key"]).removeprefix("0x"), "c77", "Holder")
    assert [canary for canary in canaries if canary in body] == []
    assert control.read(control.SCHEDULER_SEEN) is None, (
        "the ticker's sweeps and others' messages do not count"
    )
    message = broker.get_actor("purge").message_with_options(scheduled_at=datetime.now(UTC).isoformat())
    broker.enqueue(message)
    until(lambda: control.read(control.SCHEDULER_SEEN) is not None, seconds=10, what="it is noted")
    until(lambda: control.read(control.LAST_PURGE) is not None, seconds=10, what="what was purged")
    workers.terminate()
    workers.wait(30)
    assert scrape()["pipeline_worker_processes"] <= 2, "those that ended have said so"

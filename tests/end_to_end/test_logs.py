"""Promise: whoever reads the workers' log can follow a job from end to end, by its ids, in both formats."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import deadletters
from pipeline.embedded.workers import Workers
from pipeline.models import Credential
from tests.issuer import HASH, chain_variables, completed, document, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Line = dict[str, Any]


def lines_of(workers: Workers, credential_id: str) -> list[Line]:
    """The steps of a credential, as machines read them."""
    whole = re.findall(r"^\{.*\}$", workers.log(), flags=re.MULTILINE)  # the last may be half written
    found = [json.loads(line) for line in whole]
    steps = [line for line in found if line["logger"] == "pipeline.transitions"]
    return [line for line in steps if line["credential_id"] == credential_id]


def events(lines: list[Line]) -> list[str]:
    """What happened, in order; retries as one."""
    named = [line["event"] for line in lines]
    return [name for number, name in enumerate(named) if name != "delayed" or named[number - 1] != name]


def logged_here(caplog: pytest.LogCaptureFixture, *steps: str) -> list[tuple[str, str]]:
    """Those of these steps that this process, an issuer's or an operator's, has told."""
    told = [vars(record) for record in caplog.records if record.name == "pipeline.transitions"]
    return [(line["event"], line["credential_id"]) for line in told if line["event"] in steps]


def test_json(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node that is away, a wrong hash and its replay, a reorg: each step once, with its ids."""
    caplog.set_level(logging.INFO, "pipeline")
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    retries = {"retry_min_backoff_ms": 500, "retry_max_attempts": 50}
    workers = start(log_format="json", **retries, **variables)
    proxy.down = True
    [job_id] = queue_documents(1)
    until(lambda: "delayed" in events(lines_of(workers, "c0")), seconds=30, what="an attempt has failed")
    proxy.down = False
    until(completed(client, 1), seconds=30, what="completed")

    Credential.create(id="wrong", document=json.dumps(document(1)))
    client.write_to_blockchain_queued("wrong", HASH)
    until(lambda: client.get_job_counts()["failed"] == 1, seconds=20, what="refused")
    until(lambda: events(lines_of(workers, "wrong")) == ["failed"], seconds=20, what="and told")
    Credential.update(document=None, data_hash=HASH).where(Credential.id == "wrong").execute()
    assert deadletters.replay(["wrong"]) == 1
    until(completed(client, 2), seconds=30, what="completed after the replay")

    anvil.rpc("anvil_reorg", 1, [])
    anvil.mine()
    until(lambda: "unconfirmed" in events(lines_of(workers, "wrong")), seconds=30, what="the reorg is told")
    until(lambda: events(lines_of(workers, "wrong"))[-1] == "completed", seconds=30, what="completed again")

    way = lines_of(workers, "c0")
    assert events(way)[:5] == ["verified", "delayed", "written", "mined", "completed"]
    attempts = [line["attempt"] for line in way if line["event"] == "delayed"]
    assert attempts == list(range(1, len(attempts) + 1))
    assert {line["job_id"] for line in way} == {job_id}
    result = client.get_blockchain_write_status("c0")["result"]
    for line in way[1:]:
        assert line["batch_id"] == way[0]["batch_id"]
        assert line.get("transaction_hash", result["transaction_hash"]) == result["transaction_hash"]
    assert (way[1]["stage"], way[1]["error"]) == ("chain_write", "NodeUnreachable")

    way = lines_of(workers, "wrong")
    assert events(way) == [
        *("failed", "verified", "written", "mined", "completed"),
        *("unconfirmed", "mined", "completed"),
    ]
    assert (way[0]["attempt"], way[0]["stage"], way[0]["error"]) == (1, "hash_verify", "HashMismatch")
    assert logged_here(caplog, "queued", "replayed") == [
        ("queued", "c0"),
        ("queued", "wrong"),
        ("replayed", "wrong"),
    ]
    assert str(variables["blockchain_private_key"]).removeprefix("0x") not in workers.log()


def test_console(client: Any, start: Callable[..., Workers]) -> None:
    """The same for people: few lines for many that go together, one for each that goes alone."""
    workers = start(blockchain_mock_enabled="true")
    queue_documents(40)
    until(completed(client, 40), seconds=20, what="40 completed")
    queue_documents(1, start=40)
    until(completed(client, 41), seconds=20, what="one more")
    until(lambda: "completed: c40" in workers.log(), seconds=10, what="and told")
    steps = [line for line in workers.log().splitlines() if " pipeline.transitions " in line]
    alone = [line for line in steps if "credential_id=c40" in line]
    assert len(alone) == 3
    for line, step in zip(alone, ("verified", "written", "completed"), strict=True):
        fields = rf"credential_id=c40 job_id=\S+ batch_id=\d+ .*event={step}\b"
        assert re.match(rf"\S+Z INFO +pipeline\.transitions {step}: c40 {fields}", line), line
    assert len(steps) <= 3 * 41 // 10
    for step in ("verified", "written", "completed"):
        counts = [int(found) for found in re.findall(rf"{step}: \d+ jobs .*count=(\d+)", "\n".join(steps))]
        assert sum(counts) + len([line for line in steps if f"{step}: c" in line]) == 41

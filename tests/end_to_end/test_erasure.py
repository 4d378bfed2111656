"""Promise: an erasure does not get into the workers' way, nor they into its."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.embedded.workers import Workers
from pipeline.erasure import erase
from pipeline.models import Credential, Write
from tests.databases import on_sqlite
from tests.issuer import completed, queue_documents
from tests.waiting import until

OLD, NEW = 5, 300


@on_sqlite
def test_beside_workers(client: Any, start: Callable[..., Workers]) -> None:
    """The file is written anew five times while hundreds are anchored: all of it comes to its end."""
    start(processes=2, blockchain_mock_enabled="true", batch_max_size=10)
    queue_documents(OLD)
    until(completed(client, OLD), seconds=30, what="the old ones are completed")
    queue_documents(NEW, start=OLD)
    assert [erase(f"c{number}") for number in range(OLD)] == [1] * OLD
    until(completed(client, OLD + NEW), seconds=60, what="all are completed")
    assert client.get_job_counts()["failed"] == 0
    assert Write.select().where(Write.salt.is_null()).count() == OLD
    assert Credential.select().where(Credential.document.is_null()).count() == OLD

"""Promise: ``BATCH_LINGER_MS`` holds what may still get company, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipeline import verification
from pipeline.credentials import issue
from pipeline.ledger import batches
from pipeline.models import Batch, Write
from pipeline.settings import get_settings
from tests.issuer import document, queue_documents


@pytest.fixture(autouse=True)
def linger(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of five that wait for a minute."""
    monkeypatch.setenv("BATCH_LINGER_MS", "60000")
    monkeypatch.setenv("BATCH_MAX_SIZE", "5")
    get_settings.cache_clear()


def verify_all() -> None:
    """Let everything join its batch."""
    verification.verify([row.id for row in Write.select(Write.id)])


def test_a_full_batch_waits_for_nobody(client: Any) -> None:
    """Seven: five go at once, two linger, and the status says so."""
    queue_documents(7)
    verify_all()
    ready = batches.next_ready()
    assert ready is not None
    assert ready.size == 5
    assert batches.submit_mock(ready.id)
    assert batches.next_ready() is None
    [lingering] = Batch.select().where(Batch.state == "open")
    assert lingering.due_at > time.time() + 50
    assert client.get_blockchain_write_status("c6")["reason"] == "linger"


def test_urgent_work_does_not_linger(client: Any) -> None:
    """Neither what is urgent from the start, nor what becomes so."""
    issue("u", document(1), priority="urgent")
    verify_all()
    ready = batches.next_ready()
    assert ready is not None
    assert ready.lane == "urgent"
    assert batches.submit_mock(ready.id)
    issue("n", document(2))
    verify_all()
    assert batches.next_ready() is None
    issue("n", document(2), priority="urgent")
    assert batches.next_ready() is not None

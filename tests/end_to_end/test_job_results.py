"""Promise: ``get_result`` of a sent message is the end of its job, however the job came to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dramatiq.results import ResultFailure

from pipeline.embedded.workers import Workers
from pipeline.hashing import document_hash
from pipeline.models import Credential
from tests.issuer import completed, document, queue_documents
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def send() -> Callable[[int], Any]:
    """Send the message of a credential of `queue_documents`."""
    from pipeline.actors import hash_verify

    return lambda number: hash_verify.send(f"c{number}", document_hash(document(number)))


def test_of_a_job_that_was_queued_in_bulk(
    client: Any, start: Callable[..., Workers], send: Callable[[int], Any]
) -> None:
    """Sent again while it is pending, and when it is completed already."""
    workers = start(blockchain_mock_enabled="true")
    workers.stop()
    queue_documents(2)
    pending = send(0)
    workers.start()
    assert pending.get_result(block=True, timeout=20_000)["mock"]
    until(completed(client, 2), seconds=20, what="both completed")
    assert send(1).get_result(block=True, timeout=5_000)["mock"]


@pytest.mark.parametrize("by", ["sending again", "an operator"])
def test_of_a_failed_job_that_goes_out_again(
    client: Any, start: Callable[..., Workers], send: Callable[[int], Any], by: str
) -> None:
    """The old failure is gone before the new end is there."""
    from pipeline import deadletters

    workers = start(blockchain_mock_enabled="true")
    workers.stop()
    queue_documents(1)
    Credential.update(document=json.dumps(document(7))).execute()
    message = send(0)
    workers.start()
    with pytest.raises(ResultFailure):
        message.get_result(block=True, timeout=20_000)
    Credential.update(document=json.dumps(document(0))).execute()
    workers.stop()
    if by == "an operator":
        assert deadletters.replay(["c0"]) == 1
    else:
        assert send(0).message_id == message.message_id
    workers.start()
    assert message.get_result(block=True, timeout=20_000)["mock"]

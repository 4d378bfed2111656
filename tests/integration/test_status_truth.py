"""Promise: status, metadata and proof speak of what was asked for last, and of nothing that is not so."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from pipeline import verification
from pipeline.anchors import receipt_of
from pipeline.completion import complete
from pipeline.hashing import document_hash
from pipeline.ledger import batches, dead_letters
from pipeline.ledger import verification as ledger_verification
from pipeline.models import Credential, State, Write
from pipeline.queueing import adopt
from pipeline.settings import get_settings
from tests.issuer import document


@pytest.fixture(autouse=True)
def mock_mode(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs a chain."""
    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    get_settings.cache_clear()


def anchor_all() -> None:
    """Bring everything that is queued through, without workers."""
    verification.verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])
    while (batch := batches.next_ready()) is not None:
        batches.submit_mock(batch.id)
        complete(batch.id)


def issue(number: int) -> str:
    """Issue the credential ``c`` with a document; returns the job id."""
    from pipeline import credentials

    return credentials.issue("c", document(number))


def metadata() -> dict[str, Any]:
    """The credential's own word."""
    found: dict[str, Any] = json.loads(Credential.get_by_id("c").metadata)
    return found


def test_back_to_an_earlier_content(client: Any) -> None:
    """A, then B, then A again is A: its job, its status, its proof, and its metadata."""
    first = issue(1)
    anchor_all()
    confirmed_at = metadata()["blockchain_confirmed_at"]
    second = issue(2)
    anchor_all()
    assert metadata()["blockchain_confirmed_at"] >= confirmed_at
    assert client.get_blockchain_write_status("c")["job_id"] == second
    assert issue(1) == first
    found = client.get_blockchain_write_status("c")
    assert (found["job_id"], found["data_hash"]) == (first, document_hash(document(1)))
    assert receipt_of("c")["leaf_values"][1] == "0x" + document_hash(document(1))
    assert metadata()["blockchain_status"] == "confirmed"
    assert metadata()["blockchain_confirmed_at"] == confirmed_at


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_synchronous_call_waits_for_its_own_job(client: Any) -> None:
    """Its answer is about the hash that was handed in, whatever else there is of the credential."""
    first = issue(1)
    anchor_all()
    issue(2)
    anchor_all()
    assert client.write_to_blockchain("c", document_hash(document(1)))["job_id"] == first


def test_a_malformed_message_changes_nothing_of_the_credential(client: Any) -> None:
    """It is a dead letter of its own; the status stays that of the real write."""
    job_id = issue(1)
    anchor_all()
    assert adopt("raw", {"credential_id": "c", "data_hash": "zz", "ipfs_cid": None}) == []
    assert client.get_blockchain_write_status("c")["job_id"] == job_id
    assert len(dead_letters.open_letters()) == 1


def test_a_delivery_that_was_asleep_buries_nothing(client: Any) -> None:
    """It has seen a wrong document; meanwhile another one has brought the write on its way."""
    issue(1)
    Credential.update(document=json.dumps(document(9))).execute()
    stale = ledger_verification.begin([Write.get().id])
    Credential.update(document=json.dumps(document(1))).execute()
    verification.verify([Write.get().id])
    verification._judge(stale[0], defaultdict(list))
    assert Write.get().state == State.VERIFIED
    anchor_all()
    assert client.get_blockchain_write_status("c")["status"] == "completed"
    assert dead_letters.open_letters() == []

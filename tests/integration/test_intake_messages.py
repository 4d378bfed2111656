"""Promise: a message that did not come from here becomes a write like any other, or a dead letter, once."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.models import State, Write
from tests.intake import CID, HASH, finish, insert_row, messages, writes


def adopt(job_id: str, **parts: object) -> list[int]:
    """What the first stage does with a message whose row is not there."""
    from pipeline import queueing

    return queueing.adopt(job_id, {"ipfs_cid": None, **parts})


def test_a_foreign_message_becomes_a_write(credential: str) -> None:
    """Redis is older than the database, or another program sends: queued under the message's id."""
    [write_id] = adopt("m1", credential_id=credential, data_hash=HASH)
    assert adopt("m1", credential_id=credential, data_hash=HASH) == [write_id]
    assert adopt("m2", credential_id=credential, data_hash=HASH) == []
    assert [write.job_id for write in writes()] == ["m1"]


@pytest.mark.parametrize(
    "parts",
    [
        {"credential_id": "a\x00b", "data_hash": HASH},
        {"credential_id": "\ud800", "data_hash": HASH},
        {"credential_id": "x" * 10_000, "data_hash": HASH},
        {"credential_id": "c1", "data_hash": "no hash"},
        {"credential_id": "c1", "data_hash": HASH, "ipfs_cid": "no CID"},
        {"credential_id": None, "data_hash": 7},
    ],
)
def test_a_malformed_message_is_a_dead_letter(credential: str, redis_url: str, parts: dict[str, Any]) -> None:
    """At once, with one attempt, once; it is no write that could be replayed, or queued again."""
    from pipeline import client, deadletters

    assert adopt("m1", **parts) == []
    assert adopt("m1", **parts) == [writes()[0].id]  # it is there, and failed: nothing to do for it
    [letter] = deadletters.listed()
    assert (letter["job_id"], letter["attempts"], letter["permanent"]) == ("m1", 1, True)
    assert len(messages(redis_url, "dead_letter")) == 1
    assert deadletters.replay_all() == 0
    assert client.write_to_blockchain_queued(credential, HASH) != "m1"


def test_a_message_for_an_unknown_credential_can_be_replayed(client: Any) -> None:
    """Once the credential is there, its job is a write like any other, with its CID and a leaf."""
    from pipeline import deadletters

    assert adopt("m1", credential_id="late", data_hash=HASH, ipfs_cid=CID) == []
    assert client.get_blockchain_write_status("late")["error"]["code"] == "UnknownCredential"
    insert_row("late")
    assert deadletters.replay(["late"]) == 1
    finish("late")
    status = client.get_blockchain_write_status("late")
    assert (status["job_id"], status["status"], status["ipfs_cid"]) == ("m1", "completed", CID)


def test_messages_that_conflict(credential: str) -> None:
    """Each is a dead letter; replaying all at once queues one of them, and only after the pending one."""
    from pipeline import client, deadletters

    first = client.write_to_blockchain_queued(credential, HASH)
    for number in range(3):
        assert adopt(f"m{number}", credential_id=credential, data_hash=f"{number:064x}") == []
    assert client.get_blockchain_write_status(credential)["job_id"] == first
    assert deadletters.replay_all() == 0
    finish(credential)
    assert deadletters.replay_all() == 1
    assert Write.get(Write.state == State.QUEUED).job_id == "m2"

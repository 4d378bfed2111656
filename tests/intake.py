"""Writes handed in by each way there is, what of them is in rows and messages, and how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from pipeline.database import database, is_sqlite
from pipeline.errors import HashMismatch
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, dead_letters, joining, verification
from pipeline.ledger.confirmation import confirm
from pipeline.models import Credential, State, Write

HASH = "ab" * 32
OTHER_HASH = "cd" * 32
CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
OTHER_CID = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"

#: Ways to queue one write, by the name of the interface.
WAYS = ("send", "send_with_options", "queued", "many", "alias")

#: After so many runs psycopg has a statement prepared, which is said apart.
PREPARED_AFTER = 6


def insert_row(credential_id: str, **columns: object) -> None:
    """A row as a program without this project writes it: ``metadata`` is ``{}`` unless given."""
    row = {"id": credential_id, "metadata": "{}", **columns}
    mark = "?" if is_sqlite() else "%s"
    database.execute_sql(
        f"INSERT INTO credentials ({', '.join(row)}) VALUES ({', '.join([mark] * len(row))})",
        list(row.values()),
    )


def queue_by(way: str, credential_id: object, data_hash: object, ipfs_cid: object = None) -> str:
    """Queue one write in one of the `WAYS`; returns the job id."""
    from pipeline import client
    from pipeline.actors import hash_verify

    parts: Any = (credential_id, data_hash, ipfs_cid)
    if way == "send":
        return str(hash_verify.send(*parts).message_id)
    if way == "send_with_options":
        return str(hash_verify.send_with_options(args=parts).message_id)
    if way == "many":
        return client.write_many_to_blockchain_queued([parts])[0]
    if way == "alias":
        with pytest.warns(DeprecationWarning, match="write_to_blockchain_queued"):
            return client.process_blockchain_async(*parts)
    return client.write_to_blockchain_queued(*parts)


def writes() -> list[Write]:
    """All writes, oldest first."""
    return list(Write.select().order_by(Write.id))


def metadata_of(credential_id: str) -> dict[str, Any]:
    """The credential's metadata."""
    found: dict[str, Any] = json.loads(Credential.get_by_id(credential_id).metadata)
    return found


def messages(redis_url: str, queue: str = "hash_verify") -> list[dict[str, Any]]:
    """The messages in a queue of Dramatiq."""
    with redis.Redis.from_url(redis_url) as connection:
        return [json.loads(message) for message in connection.hvals(f"dramatiq:{queue}.msgs")]


def finish(credential_id: str) -> None:
    """Take the credential's pending write to its end, without workers."""
    write = Write.get(Write.credential_id == credential_id, Write.state == State.QUEUED)
    verification.begin([write.id])
    joining.join([write.id], [], lane=write.priority, max_size=1, linger_seconds=0)
    batch_id = Write.get_by_id(write.id).batch_id
    assert batches.submit_mock(batch_id)
    assert confirm(batch_id)


def fail(credential_id: str) -> None:
    """Make the credential's pending write a dead letter."""
    write = Write.get(Write.credential_id == credential_id, Write.state.in_(State.PENDING))
    assert dead_letters.bury(
        [write.id], HashMismatch("because of the test"), state=write.state, stage="hash_verify"
    )


def requests(count: int, **parts: Any) -> list[WriteRequest]:
    """For ``c0``, ``c1``, …, each with a hash of its own; inserts those credentials."""
    for number in range(count):
        insert_row(f"c{number}")
    return [WriteRequest.of(f"c{number}", f"{number:064x}", **parts) for number in range(count)]

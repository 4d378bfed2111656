"""Promise: what is handed in becomes a row and a message exactly once, or nothing at all is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis

from pipeline.database import database, is_sqlite
from pipeline.embedded.valkey import ValkeyServer
from pipeline.errors import (
    CidMismatch,
    ConflictingWrite,
    HashMismatch,
    InvalidCid,
    InvalidCredentialId,
    InvalidDataHash,
    InvalidDocument,
    InvalidInput,
    InvalidPriority,
    UnknownCredential,
)
from pipeline.hashing import document_hash, load_document
from pipeline.ledger import batches, dead_letters, verification
from pipeline.ledger.confirmation import confirm
from pipeline.models import Credential, DeadLetter, State, Write
from pipeline.settings import get_settings
from tests.issuer import document

HASH = "ab" * 32
OTHER_HASH = "cd" * 32
CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
OTHER_CID = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"

#: Ways to queue one write, by the name of the interface.
WAYS = ("send", "send_with_options", "queued", "many", "alias")


@pytest.fixture
def credential(client: Any) -> str:
    """The id of a row that another program has inserted, with nothing in it."""
    insert_row("c1")
    return "c1"


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


def finish(credential_id: str, *, mock: bool = True) -> None:
    """Take the credential's pending write to its end, without workers."""
    write = Write.get(Write.credential_id == credential_id, Write.state == State.QUEUED)
    verification.begin([write.id])
    verification.join([write.id], [], lane=write.priority, max_size=1, linger_seconds=0)
    batch_id = Write.get_by_id(write.id).batch_id
    assert batches.submit_mock(batch_id)
    assert confirm(batch_id)


def fail(credential_id: str) -> None:
    """Make the credential's pending write a dead letter."""
    write = Write.get(Write.credential_id == credential_id, Write.state.in_(State.PENDING))
    assert dead_letters.bury(
        [write.id], HashMismatch("because of the test"), state=write.state, stage="hash_verify"
    )


# --- one write ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_write_is_a_row_and_a_message(credential: str, redis_url: str, way: str) -> None:
    """The row is queued with its job id; the credential says pending; one message is there."""
    job_id = queue_by(way, credential, "0x" + HASH.upper(), CID)
    [write] = writes()
    assert (write.job_id, write.state, write.attempts) == (job_id, State.QUEUED, 0)
    assert (write.data_hash, write.ipfs_cid, write.priority) == (HASH, CID, "normal")
    assert metadata_of(credential) == {"blockchain_status": "pending"}
    [message] = messages(redis_url)
    if way == "many":
        assert message["args"] == [[write.id]]
    else:
        assert message["args"] == [credential, HASH, CID]
        assert message["message_id"] == job_id


def test_a_delayed_write_is_not_due(credential: str, redis_url: str) -> None:
    """The row knows the delay; a first try that is due later counts as delayed, with no attempt."""
    from pipeline import client
    from pipeline.actors import hash_verify

    before = time.time()
    hash_verify.send_with_options(args=(credential, HASH), delay=60_000)
    [write] = writes()
    assert before + 60 <= write.due_at <= time.time() + 60
    assert verification.begin([write.id]) == []
    status = client.get_blockchain_write_status(credential)
    assert (status["status"], status["attempts"]) == ("delayed", 0)


def test_urgent_has_a_queue_of_its_own(credential: str, redis_url: str) -> None:
    """It overtakes any backlog, so it does not stand in it."""
    from pipeline.actors import hash_verify

    hash_verify.send_with_options(args=(credential, HASH), priority="urgent")
    assert len(messages(redis_url, "urgent")) == 1
    assert messages(redis_url) == []
    assert writes()[0].priority == "urgent"


# --- the same again ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cid", [None, CID])
def test_the_same_again_while_pending(credential: str, redis_url: str, way: str, cid: str | None) -> None:
    """Same credential, hash and CID: same job id, one write, no second message; spelling is no difference."""
    first = queue_by("send", credential, HASH, cid)
    assert queue_by(way, credential, "0x" + HASH.upper(), cid) == first
    assert len(writes()) == 1
    assert len(messages(redis_url)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_same_again_when_completed(credential: str, redis_url: str, way: str) -> None:
    """It is anchored already: the job id of then, and nothing to do."""
    first = queue_by("send", credential, HASH)
    finish(credential)
    assert queue_by(way, credential, HASH) == first
    [write] = writes()
    assert write.state == State.CONFIRMED
    assert metadata_of(credential)["blockchain_status"] == "confirmed"
    assert len(messages(redis_url)) == 1


def test_purged_is_still_completed(client: Any, credential: str) -> None:
    """A tombstone answers on: the same again is no second write."""
    from tests.ledger import purge_completed

    first = client.write_to_blockchain_queued(credential, HASH)
    finish(credential)
    assert purge_completed(finished_before=time.time() + 1) == [first]
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert len(writes()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_same_again_when_failed_is_a_replay(credential: str, redis_url: str, way: str) -> None:
    """The old job id, attempts anew, the dead letter resolved, pending again, one more message."""
    first = queue_by("send", credential, HASH)
    verification.begin([writes()[0].id])
    fail(credential)
    assert metadata_of(credential)["blockchain_status"] == "failed"
    assert queue_by(way, credential, HASH) == first
    [write] = writes()
    assert (write.state, write.attempts, write.error_code) == (State.QUEUED, 0, None)
    assert metadata_of(credential) == {"blockchain_status": "pending"}
    assert dead_letters.open_letters() == []
    assert len(messages(redis_url)) == 2


def test_urgent_upgrades_a_queued_write(credential: str, redis_url: str) -> None:
    """Same job; its row and a new message are urgent. Normal does not take that back."""
    from pipeline import client

    first = client.write_to_blockchain_queued(credential, HASH)
    assert client.write_to_blockchain_queued(credential, HASH, priority="urgent") == first
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert [write.priority for write in writes()] == ["urgent"]
    assert len(messages(redis_url, "urgent")) == 1


def test_urgent_upgrades_a_verified_write(credential: str, redis_url: str) -> None:
    """The batch that holds it moves to the urgent lane; a new normal one can be opened."""
    from pipeline import client

    insert_row("c2")
    client.write_many_to_blockchain_queued([(credential, HASH), ("c2", HASH)])
    first, second = writes()
    verification.begin([first.id, second.id])
    verification.join([first.id], [], lane="normal", max_size=10, linger_seconds=0)
    client.write_to_blockchain_queued(credential, HASH, priority="urgent")
    upgraded = batches.next_ready()
    assert upgraded is not None
    assert upgraded.lane == "urgent"
    verification.join([second.id], [], lane="normal", max_size=10, linger_seconds=0)
    assert Write.get_by_id(second.id).batch_id != upgraded.id


def test_twice_in_one_list(client: Any, credential: str, redis_url: str) -> None:
    """One job for both, and the more urgent of the two counts, whichever comes first."""
    insert_row("c2")
    items = [(credential, HASH), (credential, HASH, None, "urgent")]
    items += [("c2", HASH, None, "urgent"), ("c2", HASH, None, "normal")]
    jobs = client.write_many_to_blockchain_queued(items)
    assert jobs[0] == jobs[1]
    assert jobs[2] == jobs[3]
    assert [(write.job_id, write.priority) for write in writes()] == [
        (jobs[0], "urgent"),
        (jobs[2], "urgent"),
    ]
    ids = [write.id for write in writes()]
    assert [message["args"] for message in messages(redis_url, "urgent")] == [[ids]]
    assert messages(redis_url) == []


# --- something else of the same credential -----------------------------------------------------

OTHERS = [(OTHER_HASH, None), (HASH, CID), (OTHER_HASH, CID)]


@pytest.mark.parametrize("way", WAYS)
def test_another_while_pending_conflicts(credential: str, redis_url: str, way: str) -> None:
    """Another hash or CID has to wait; the error names the job that is pending, and nothing changes."""
    first = queue_by("send", credential, HASH)
    for data_hash, cid in OTHERS:
        with pytest.raises(ConflictingWrite, match=first):
            queue_by(way, credential, data_hash, cid)
    assert [write.job_id for write in writes()] == [first]
    assert len(messages(redis_url)) == 1


@pytest.mark.parametrize("end", [finish, fail])
@pytest.mark.parametrize(("data_hash", "cid"), OTHERS)
def test_another_afterwards_is_a_new_job(
    client: Any, credential: str, data_hash: str, cid: str | None, end: Callable[[str], None]
) -> None:
    """Once the first is through, another is a job of its own, which the status shows."""
    first = client.write_to_blockchain_queued(credential, HASH)
    end(credential)
    second = client.write_to_blockchain_queued(credential, data_hash, cid)
    assert second != first
    status = client.get_blockchain_write_status(credential)
    assert (status["job_id"], status["data_hash"], status["ipfs_cid"]) == (second, data_hash, cid)
    assert metadata_of(credential) == {"blockchain_status": "pending"}


def test_a_failed_job_that_a_new_one_has_overtaken(client: Any, credential: str) -> None:
    """Its dead letter is closed: replaying it would queue a second write, of outdated content."""
    client.write_to_blockchain_queued(credential, HASH)
    fail(credential)
    client.write_to_blockchain_queued(credential, OTHER_HASH)
    assert dead_letters.open_letters() == []
    assert [letter.resolution for letter in DeadLetter.select()] == ["superseded"]
    assert dead_letters.requeue([writes()[0].id], resolution="replayed") == []


def test_back_to_a_failed_one(client: Any, credential: str) -> None:
    """Asked for again by the issuer, a failed job is replayed although another came after it."""
    first = client.write_to_blockchain_queued(credential, HASH)
    fail(credential)
    client.write_to_blockchain_queued(credential, OTHER_HASH)
    with pytest.raises(ConflictingWrite):
        client.write_to_blockchain_queued(credential, HASH)
    finish(credential)
    assert client.write_to_blockchain_queued(credential, HASH) == first
    assert Write.get(Write.job_id == first).state == State.QUEUED
    assert client.get_blockchain_write_status(credential)["job_id"] == first
    finish(credential)
    assert client.get_blockchain_write_status(credential)["job_id"] == first


# --- all or nothing ----------------------------------------------------------------------------


def test_many_in_order(client: Any, redis_url: str) -> None:
    """Job ids in the order of the input, over several chunks; a message a chunk, not one each."""
    numbers = list(range(1200))
    for start in range(0, 1200, 400):
        rows = [{"id": f"c{n}", "metadata": "{}"} for n in numbers[start : start + 400]]
        Credential.insert_many(rows).execute()
    jobs = client.write_many_to_blockchain_queued((f"c{n}", f"{n:064x}") for n in reversed(numbers))
    found = {write.job_id: write.credential_id for write in writes()}
    assert [found[job_id] for job_id in jobs] == [f"c{n}" for n in reversed(numbers)]
    assert len(messages(redis_url)) == 3


def test_one_unknown_among_many(client: Any, credential: str, redis_url: str) -> None:
    """Nothing of the list is stored or sent."""
    with pytest.raises(UnknownCredential, match="'nobody'"):
        client.write_many_to_blockchain_queued([(credential, HASH), ("nobody", HASH)])
    assert writes() == []
    assert metadata_of(credential) == {}
    assert messages(redis_url) == []


def test_one_conflict_among_many(client: Any, credential: str, redis_url: str) -> None:
    """The same, in whichever chunk it is."""
    Credential.insert_many([{"id": f"x{n}", "metadata": "{}"} for n in range(600)]).execute()
    client.write_to_blockchain_queued(credential, HASH)
    with pytest.raises(ConflictingWrite, match="'c1'"):
        client.write_many_to_blockchain_queued(
            [*((f"x{n}", HASH) for n in range(600)), (credential, OTHER_HASH)]
        )
    assert len(writes()) == 1
    assert metadata_of("x0") == {}


def test_sync_is_all_or_nothing(client: Any, redis_url: str) -> None:
    """A bad item: its position is named, and no credential of the list is stored."""
    from pipeline.credentials import sync

    good = {"credential_id": "c1", "document": document(1)}
    with pytest.raises(HashMismatch, match=r"items\[1\]"):
        sync([good, {"credential_id": "c2", "document": document(2), "data_hash": HASH}])
    assert Credential.select().count() == 0
    assert messages(redis_url) == []


def test_issue_conflict_stores_nothing(client: Any) -> None:
    """The pending write's document is not replaced under its feet."""
    from pipeline.credentials import issue

    issue("c1", document(1), metadata={"a": 1})
    with pytest.raises(ConflictingWrite):
        issue("c1", document(2), metadata={"a": 2})
    row = Credential.get_by_id("c1")
    assert load_document(row.document) == document(1)
    assert metadata_of("c1") == {"a": 1, "blockchain_status": "pending"}


def test_twice_in_one_sync_with_different_content(client: Any) -> None:
    """Which of the two is meant nobody can know."""
    from pipeline.credentials import sync

    with pytest.raises(ConflictingWrite, match="twice"):
        sync([{"credential_id": "c1", "document": document(n)} for n in range(2)])
    assert Credential.select().count() == 0


BAD = [
    ("", HASH, None, InvalidCredentialId),
    ("x" * 256, HASH, None, InvalidCredentialId),
    ("a\nb", HASH, None, InvalidCredentialId),
    (7, HASH, None, InvalidCredentialId),
    ("c1", HASH[:-1], None, InvalidDataHash),
    ("c1", "g" * 64, None, InvalidDataHash),
    ("c1", None, None, InvalidDataHash),
    ("c1", HASH, "no CID", InvalidCid),
    ("nobody", HASH, None, UnknownCredential),
]


@pytest.mark.parametrize("way", WAYS)
def test_bad_input_reaches_the_caller(credential: str, redis_url: str, way: str) -> None:
    """Every way raises the same errors, before anything is stored or sent."""
    for credential_id, data_hash, cid, error in BAD:
        with pytest.raises(error):
            queue_by(way, credential_id, data_hash, cid)
    assert writes() == []
    assert messages(redis_url) == []
    assert metadata_of(credential) == {}


def test_bad_priority(client: Any, credential: str) -> None:
    """Only two are known."""
    with pytest.raises(InvalidPriority):
        client.write_to_blockchain_queued(credential, HASH, priority="high")
    assert writes() == []


BAD_DOCUMENTS: list[Any] = [
    {"n": float("nan")},
    {"n": 2**53},
    {"s": "\ud800"},
    {"s": "\u0000"},
    [],
    {"s": "x" * (1024 * 1024)},
]


def test_bad_documents(client: Any) -> None:
    """Refused to the caller; no credential is stored."""
    from pipeline.credentials import issue

    for bad in BAD_DOCUMENTS:
        with pytest.raises(InvalidDocument):
            issue("c1", bad)
    assert Credential.select().count() == 0


def test_bad_metadata(client: Any) -> None:
    """Above all, nobody but the pipeline says that something is confirmed."""
    from pipeline.credentials import issue

    bad: Any
    for bad in ({"blockchain_status": "confirmed"}, [], {"n": float("inf")}):
        with pytest.raises(InvalidInput, match="metadata"):
            issue("c1", document(1), metadata=bad)
    assert Credential.select().count() == 0


def test_cid_digest_check(client: Any, credential: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw CID of other content is taken, or refused when the setting says so."""
    monkeypatch.setenv("CID_DIGEST_CHECK", "true")
    get_settings.cache_clear()
    with pytest.raises(CidMismatch):
        client.write_to_blockchain_queued(credential, HASH, CID)
    assert writes() == []
    client.write_to_blockchain_queued(credential, HASH, OTHER_CID)


# --- messages that did not come through here ---------------------------------------------------


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


# --- transactions and messages -----------------------------------------------------------------


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction (or, in one, a savepoint) that ends with an error of the issuer's."""
    with suppress(ZeroDivisionError), database.atomic():
        yield
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["send", "many"])
def test_the_message_leaves_after_the_commit(credential: str, redis_url: str, way: str) -> None:
    """Inside an open transaction there is none yet."""
    with database.atomic():
        queue_by(way, credential, HASH)
        assert messages(redis_url) == []
    assert len(messages(redis_url)) == 1
    assert len(writes()) == 1


@pytest.mark.parametrize("way", ["send", "many"])
def test_no_message_after_a_rollback(credential: str, redis_url: str, way: str) -> None:
    """Neither row nor message, also not with the next commit."""
    with rolled_back():
        queue_by(way, credential, HASH)
    insert_row("another")
    assert writes() == []
    assert messages(redis_url) == []
    assert metadata_of(credential) == {}


@pytest.mark.parametrize("way", ["send", "many"])
def test_no_message_after_the_rollback_of_a_savepoint(credential: str, redis_url: str, way: str) -> None:
    """The outer transaction commits without it: a message would bring the write back to life."""
    with database.atomic():
        with rolled_back():
            queue_by(way, credential, HASH)
        insert_row("another")
    assert writes() == []
    assert messages(redis_url) == []


def test_a_caught_error_leaves_the_transaction_usable(credential: str, redis_url: str) -> None:
    """A conflict inside the issuer's transaction takes nothing else away."""
    with database.atomic():
        queue_by("send", credential, HASH)
        with pytest.raises(ConflictingWrite):
            queue_by("send", credential, OTHER_HASH)
        insert_row("another")
    assert len(writes()) == 1
    assert Credential.select().count() == 2


def test_issue_within_the_issuers_transaction(client: Any, redis_url: str) -> None:
    """Credential, write and the issuer's own rows live or die together."""
    from pipeline.credentials import issue

    with rolled_back():
        issue("c1", document(1))
    assert Credential.select().count() == 0
    with database.atomic():
        issue("c1", document(1))
        assert messages(redis_url) == []
    assert len(messages(redis_url)) == 1


@pytest.fixture
def redis_down(
    client: Any, start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ValkeyServer]:
    """A Valkey that has just died."""
    server = start_valkey()
    monkeypatch.setenv("REDIS_URL", server.url)
    get_settings.cache_clear()
    client.shutdown_blockchain_queue()
    server.kill()
    yield server
    client.shutdown_blockchain_queue()


@pytest.mark.parametrize("way", WAYS)
def test_redis_down(redis_down: ValkeyServer, way: str) -> None:
    """The row is stored, the caller sees no error and does not wait for long."""
    insert_row("c1")
    began = time.monotonic()
    job_id = queue_by(way, "c1", HASH)
    assert time.monotonic() - began < 5
    assert [write.job_id for write in writes()] == [job_id]
    assert queue_by(way, "c1", HASH) == job_id


def test_redis_down_while_issuing(redis_down: ValkeyServer) -> None:
    """The same for a credential that is issued, and for errors: they are the caller's as ever."""
    from pipeline.credentials import issue

    job_id = issue("c1", document(1))
    assert [write.job_id for write in writes()] == [job_id]
    with pytest.raises(UnknownCredential):
        queue_by("send", "nobody", HASH)


# --- the credential's row ----------------------------------------------------------------------


def test_the_issuers_keys_survive(client: Any) -> None:
    """All states of a write change only this project's own keys, whatever the issuer's values are."""
    own = {"name": "é \" ' %s", "deep": {"a": None, "b": [1, {"c": 2}]}, "nothing": None, "n": 1.5}
    insert_row("c1", metadata=json.dumps(own))
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {**own, "blockchain_status": "pending"}
    fail("c1")
    error = "HashMismatch: because of the test"
    assert metadata_of("c1") == {**own, "blockchain_status": "failed", "blockchain_error": error}
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {**own, "blockchain_status": "pending"}
    finish("c1")
    found = metadata_of("c1")
    assert found.pop("blockchain_confirmed_at").endswith("Z")
    assert found == {**own, "blockchain_status": "confirmed"}


def test_where_it_is_anchored_is_in_the_metadata(client: Any, credential: str) -> None:
    """Transaction and block of a confirmed write; a later failure takes them away."""
    from pipeline.ledger import metadata

    metadata.mark_confirmed([credential], transaction_hash="0x01", block_number=7, confirmed_at=1.5)
    assert metadata_of(credential) == {
        "blockchain_status": "confirmed",
        "blockchain_transaction_hash": "0x01",
        "blockchain_block_number": 7,
        "blockchain_confirmed_at": "1970-01-01T00:00:01.500Z",
    }
    metadata.mark_failed([credential], "an error")
    assert metadata_of(credential) == {"blockchain_status": "failed", "blockchain_error": "an error"}


@pytest.mark.parametrize("stored", ["{}", "null", "[]", '"text"'])
def test_metadata_that_is_no_object(client: Any, stored: str) -> None:
    """A row of another program may hold anything; its write must not fail for it."""
    insert_row("c1", metadata=stored)
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {"blockchain_status": "pending"}


def test_issued_again(client: Any) -> None:
    """The issuer's keys are replaced one by one; those that the new call has not stay, and so do ours."""
    from pipeline.credentials import issue

    job_id = issue("c1", document(1), metadata={"a": 1, "b": {"x": 1, "y": 2}, "c": 3})
    finish("c1")
    again = issue("c1", document(1), metadata={"a": None, "b": {"x": 5}, "d": 4})
    assert again == job_id
    found = metadata_of("c1")
    assert found["blockchain_status"] == "confirmed"
    assert {key: found[key] for key in "abcd"} == {"a": None, "b": {"x": 5}, "c": 3, "d": 4}


def test_issued_anew_with_other_content(client: Any) -> None:
    """After the first is through: document, hash and CID are the new ones, the status is pending."""
    from pipeline.credentials import issue

    first = issue("c1", document(1), ipfs_cid=CID)
    finish("c1")
    assert issue("c1", document(2)) != first
    row = Credential.get_by_id("c1")
    assert load_document(row.document) == document(2)
    assert (row.data_hash, row.ipfs_cid) == (document_hash(document(2)), None)
    assert metadata_of("c1") == {"blockchain_status": "pending"}


NUMBERS = [1e21, -0.0, 5e-324, 1e-7, 0.1 + 0.2, 2**53 - 1, 1.7976931348623157e308]


def test_documents_keep_their_hash(client: Any) -> None:
    """What a database would round or respell comes back with the same RFC 8785 form."""
    from pipeline.credentials import sync

    text = {"z": "ü\u2028€😀", "a": [None, True, {"": ""}]}
    issued = {f"c{position}": {"n": number, **text} for position, number in enumerate(NUMBERS)}
    sync({"credential_id": id_, "document": content} for id_, content in issued.items())
    found = verification.begin([write.id for write in writes()])
    assert len(found) == len(NUMBERS)
    for write in found:
        assert write.document is not None
        stored = document_hash(load_document(write.document))
        assert stored == document_hash(issued[write.credential_id]) == write.data_hash


def test_a_document_that_another_program_wrote(client: Any) -> None:
    """White space, key order and spelling are its own; text is kept as it is."""
    text = '{ "z": 1.0E2,\n "n":1e21, "m":-0.0, "d": 5e-324 }'
    insert_row("c1", document=text)
    client.write_to_blockchain_queued("c1", document_hash(load_document(text)))
    [write] = verification.begin([writes()[0].id])
    assert write.document == text


def test_no_document(client: Any) -> None:
    """Rows moved from an older system: queued by their hash alone, known to verification as such."""
    from pipeline.credentials import issue

    insert_row("old", data_hash=HASH)
    client.write_to_blockchain_queued("old", HASH)
    issue("new", None, data_hash=OTHER_HASH)
    found = {write.credential_id: write for write in verification.begin([w.id for w in writes()])}
    assert (found["old"].document, found["old"].credential_hash) == (None, HASH)
    assert (found["new"].document, found["new"].credential_hash) == (None, OTHER_HASH)


def test_mixed_documents_in_one_sync(client: Any) -> None:
    """With and without document, CID, metadata and priority, in one statement."""
    from pipeline.credentials import sync

    sync(
        [
            {"credential_id": "a", "data_hash": HASH},
            {"credential_id": "b", "document": document(1), "metadata": {"k": 1}, "priority": "urgent"},
            {"credential_id": "c", "document": document(2), "ipfs_cid": CID},
        ]
    )
    rows = {row.id: row for row in Credential.select()}
    assert rows["a"].document is None
    assert load_document(rows["b"].document) == document(1)
    assert rows["c"].ipfs_cid == CID
    assert [write.priority for write in writes()] == ["normal", "urgent", "normal"]

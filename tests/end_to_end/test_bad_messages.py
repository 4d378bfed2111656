"""Promise: what is wrong in Redis stops nobody else; it is told once and never tried again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
import redis

from pipeline import reconciliation
from pipeline.embedded.workers import Workers
from pipeline.hashing import document_hash
from pipeline.models import Credential, DeadLetter, Write
from pipeline.settings import get_settings
from tests.databases import on_sqlite
from tests.issuer import document, queue_documents
from tests.servers.kent import Kent
from tests.waiting import until


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """A connection to the Redis that the workers use."""
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def push(connection: redis.Redis, queue: str, body: bytes, id_: str | None = None) -> str:
    """Put ``body`` into a queue as it is; returns its Redis message id."""
    id_ = id_ or str(uuid4())
    connection.hset(f"dramatiq:{queue}.msgs", id_, body)
    connection.rpush(f"dramatiq:{queue}", id_)
    return id_


def encoded(**fields: Any) -> bytes:
    """A message of ``hash_verify_many`` as Dramatiq encodes it, but for ``fields``."""
    whole = {
        "queue_name": "hash_verify",
        "actor_name": "hash_verify_many",
        "args": [[]],
        "kwargs": {},
        "options": {"redis_message_id": str(uuid4())},
        "message_id": str(uuid4()),
        "message_timestamp": 1,
    }
    return json.dumps(whole | fields).encode()


def send_raw(actor_name: str, *args: Any, queue_name: str = "hash_verify", **kwargs: Any) -> str:
    """Send a message past `.send()` and its checks; returns the message id."""
    from pipeline.actors import broker

    return broker.enqueue(
        dramatiq.Message(queue_name=queue_name, actor_name=actor_name, args=args, kwargs=kwargs, options={})
    ).message_id


def completed(client: Any, count: int) -> Callable[[], bool]:
    """Whether ``count`` jobs are completed."""
    return lambda: bool(client.get_job_counts()["completed"] == count)


def nothing_is_held(connection: redis.Redis) -> bool:
    """Whether neither a queue nor a worker has any message."""
    held = [key for key in connection.scan_iter("dramatiq:*.msgs") if b".XQ." not in key]
    return not held and not list(connection.scan_iter("dramatiq:__acks__.*"))


def a_stored_credential(number: int) -> tuple[str, str]:
    """The row of a credential that nobody has queued yet; its id and hash."""
    Credential.create(id=f"s{number}", document=json.dumps(document(number)), metadata="{}")
    return f"s{number}", document_hash(document(number))


@on_sqlite
def test_the_result_of_urgent_jobs(client: Any, start: Callable[..., Workers]) -> None:
    """``get_result`` returns for an urgent job, for one that became urgent, and for one that failed."""
    from dramatiq.results.errors import ResultFailure

    from pipeline.actors import hash_verify
    from pipeline.retention import purge

    workers = start(blockchain_mock_enabled="true", result_failed_max_age_seconds=1)
    workers.stop()
    urgent = hash_verify.send_with_options(args=a_stored_credential(1), priority="urgent")
    credential = a_stored_credential(2)
    raised = hash_verify.send(*credential)
    again = hash_verify.send_with_options(args=credential, priority="urgent")
    wrong = hash_verify.send_with_options(args=(a_stored_credential(3)[0], "ab" * 32), priority="urgent")
    workers.start()
    for message in (urgent, raised, again):
        result = message.get_result(block=True, timeout=15_000)
        assert result["leaf"]
        assert client.get_blockchain_write_status(f"s{1 if message is urgent else 2}")["result"] == result
    with pytest.raises(ResultFailure, match="HashMismatch"):
        wrong.get_result(block=True, timeout=15_000)
    workers.stop()
    Write.update(finished_at=0).execute()
    purge()
    with redis.Redis.from_url(get_settings().redis_dsn) as connection:
        assert not list(connection.scan_iter("dramatiq-results:*"))


@on_sqlite
@pytest.mark.parametrize("orphan", ["urgent", "hash_verify"])
def test_an_orphan_hides_no_loss(
    client: Any, start: Callable[..., Workers], connection: redis.Redis, orphan: str
) -> None:
    """A body in Redis that no list names, and an id without a body: lost messages are found all the same."""
    workers = start(blockchain_mock_enabled="true")
    workers.stop()
    queue_documents(20)
    connection.delete("dramatiq:hash_verify", "dramatiq:hash_verify.msgs")
    connection.hset(f"dramatiq:{orphan}.msgs", "orphan", "x")
    connection.rpush(f"dramatiq:{orphan}", "body-less")
    workers.start()
    until(completed(client, 20), seconds=30, what="20 completed")
    until(
        lambda: not list(connection.scan_iter("dramatiq:__acks__.*")), seconds=10, what="nothing is unacked"
    )
    assert not DeadLetter.select().exists()


@pytest.mark.one_database
def test_undecodable_among_40(
    client: Any, start: Callable[..., Workers], connection: redis.Redis, kent: Kent
) -> None:
    """40 completed, one dead letter, one alert, one line in the log, and nothing of what it held."""
    workers = start(blockchain_mock_enabled="true", sentry_dsn=kent.dsn)
    workers.stop()
    queue_documents(1)
    id_ = push(connection, "hash_verify", b"no json: top secret")
    queue_documents(39, start=1)
    workers.start()
    until(completed(client, 40), seconds=15, what="40 completed")
    until(lambda: DeadLetter.select().count() == 1, seconds=10, what="a dead letter")
    letter = DeadLetter.get()
    assert (letter.job_id, letter.stage, letter.error, letter.attempts, letter.permanent) == (
        id_,
        "hash_verify",
        "InvalidInput",
        1,
        True,
    )
    [event] = kent.wait_for(1)
    until(lambda: nothing_is_held(connection), seconds=10, what="Redis holds nothing")
    log = workers.log()
    assert "top secret" not in log + json.dumps(event) + letter.message
    assert len(re.findall(r"\bERROR\b", log)) == 1
    assert "Restarting consumer" not in log
    workers.stop()
    workers.start()
    queue_documents(1, start=40)
    until(completed(client, 41), seconds=15, what="41 completed")
    assert DeadLetter.select().count() == 1
    assert len(kent.events()) == 1


#: What JSON it may be, and still no message; each would stop Dramatiq's consumer or one of its threads.
NO_MESSAGES = {
    "a list": b"[]",
    "not UTF-8": b"\xff\xfe",
    "no arguments": b'{"queue_name": "hash_verify"}',
    "deep": b"[" * 100_000,
    "options": encoded(options=None),
    "no Redis id": encoded(options={}),
    "kwargs": encoded(kwargs=[1]),
    "message id": encoded(message_id=["x"]),
    "NUL in the message id": encoded(message_id="a\0b"),
    "actor name": encoded(actor_name=["x"]),
    "unknown actor": encoded(actor_name="nobody_knows"),
    "another queue": encoded(queue_name="chain_write"),
    "unknown queue": encoded(queue_name="nowhere"),
    "throws": encoded(options={"redis_message_id": "x", "throws": "y"}, args=[]),
}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_messages(client: Any, start: Callable[..., Workers], connection: redis.Redis) -> None:
    """Whatever is in a list and is no message: a dead letter each, and all threads go on."""
    workers = start(blockchain_mock_enabled="true")
    workers.stop()
    ids = {push(connection, "hash_verify", body) for body in NO_MESSAGES.values()}
    ids.add(push(connection, "chain_write", b"x"))
    ids.add(push(connection, "urgent.DQ", b"x", "id\0\xff"[:3]).replace("\0", "\\x00"))
    queue_documents(10)
    workers.start()
    until(completed(client, 10), seconds=20, what="10 completed")
    until(lambda: DeadLetter.select().count() == len(ids), seconds=10, what="dead letters")
    assert {letter.job_id for letter in DeadLetter.select()} == ids
    assert {letter.attempts for letter in DeadLetter.select()} == {1}
    assert {letter.stage for letter in DeadLetter.select()} == {"hash_verify", "chain_write", "urgent"}
    until(lambda: nothing_is_held(connection), seconds=10, what="Redis holds nothing")
    assert "Traceback" not in workers.log()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_undecodable_while_sql_is_away(
    client: Any, start: Callable[..., Workers], connection: redis.Redis, database_url: str
) -> None:
    """It is not dropped before it is recorded, and the good ones are not kept waiting for it."""
    from pipeline.database import database

    workers = start(blockchain_mock_enabled="true")
    database.execute_sql("ALTER TABLE writes RENAME TO moved")
    id_ = push(connection, "hash_verify", b"x")
    until(lambda: "not recorded yet" in workers.log(), seconds=15, what="a failed try")
    database.execute_sql("ALTER TABLE moved RENAME TO writes")
    until(lambda: DeadLetter.select().count() == 1, seconds=15, what="a dead letter")
    assert DeadLetter.get().job_id == id_
    until(lambda: nothing_is_held(connection), seconds=10, what="Redis holds nothing")


@pytest.mark.one_database
def test_an_overdue_row_is_sent_again(client: Any, connection: redis.Redis, redis_url: str) -> None:
    """After 6 s when nobody has a message of its stage, after 120 s whoever has; a long list is no loss."""
    import pipeline.actors  # noqa: F401

    def is_sent_again(seconds_ago: float) -> bool:
        now = reconciliation.time.time()
        Write.update(sent_at=now - seconds_ago).execute()
        reconciliation.reconcile()
        return bool(Write.get().sent_at >= now)

    queue_documents(1)
    reconciliation.reconcile()
    assert not is_sent_again(100)  # it is in the list
    assert is_sent_again(130)
    [id_, *_] = connection.lrange("dramatiq:hash_verify", 0, -1)
    connection.delete("dramatiq:hash_verify")
    worker = str(uuid4())
    connection.sadd(f"dramatiq:__acks__.{worker}.hash_verify", id_)
    connection.zadd("dramatiq:__heartbeats__", {worker: reconciliation.time.time() * 1000 + 60_000})
    assert not is_sent_again(100)  # a living worker has it
    assert is_sent_again(130)
    connection.delete("dramatiq:hash_verify")
    connection.zadd("dramatiq:__heartbeats__", {worker: reconciliation.time.time() * 1000 - 60_000})
    assert not is_sent_again(2)  # a dead one had it: that may be about to be told
    assert is_sent_again(7)
    connection.rpush("dramatiq:hash_verify", *(f"x{n}" for n in range(20)))
    assert not is_sent_again(1000)  # a backlog


#: Arguments of ``hash_verify`` that no call of it can have.
MISFITS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}),
    (("m1",), {}),
    (("m2", "ab" * 32, None, "x"), {}),
    (("m3", "ab" * 32), {"credential_id": "m3"}),
    (("m4", "ab" * 32), {"surprise": 1}),
    ((["m5"], {"a": 1}, 2**70), {}),
    ((None, None), {}),
)


@pytest.mark.one_database
def test_misfits_of_hash_verify(client: Any, start: Callable[..., Workers]) -> None:
    """Each is a dead letter at once, with one attempt and what parts there are, and is never retried."""
    from pipeline.deadletters import listed, shown

    workers = start(blockchain_mock_enabled="true")
    sent = [send_raw("hash_verify", *args, **kwargs) for args, kwargs in MISFITS]
    until(lambda: len(listed()) == len(sent), seconds=10, what="dead letters")
    letters = {letter["job_id"]: letter for letter in listed()}
    assert set(letters) == set(sent)
    assert {letter["attempts"] for letter in letters.values()} == {1}
    assert all(letter["permanent"] for letter in letters.values())
    assert [letters[id_]["credential_id"] for id_ in sent[:5]] == ["", "m1", "m2", "m3", "m4"]
    assert shown("m2")["job"]["status"] == "failed"
    queue_documents(1)
    until(completed(client, 1), seconds=15, what="one completed")
    assert "Retrying" not in workers.log()
    assert "Traceback" not in workers.log()


INTERNAL_MISFITS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("hash_verify_many", (["a", None],)),
    ("hash_verify_many", ("abc",)),
    ("hash_verify_many", ()),
    ("hash_verify_many", ([2**70],)),
    ("hash_verify_many", ([True],)),
    ("hash_verify_many", ([1], [2])),
    ("chain_write", (1,)),
    ("db_update", ("zz",)),
    ("db_update", (2**70,)),
    ("db_update", ()),
    ("dead_letter", ({"a": 1},)),
    ("dead_letter", ("a\0b",)),
    ("dead_letter", ("zz",)),
    ("reconcile", (1,)),
    ("settle", (1,)),
    ("purge", (1,)),
)


@pytest.mark.one_database
def test_misfits_of_internal_actors(
    client: Any, start: Callable[..., Workers], connection: redis.Redis
) -> None:
    """One line at error each, without what they held; no retry, no dead letter, no harm."""
    from pipeline.actors import broker

    workers = start(blockchain_mock_enabled="true")
    for actor_name, args in INTERNAL_MISFITS:
        queue_name = "urgent" if actor_name == "chain_write" else broker.get_actor(actor_name).queue_name
        send_raw(actor_name, *args, queue_name=queue_name)
    until(lambda: nothing_is_held(connection), seconds=15, what="Redis holds nothing")
    queue_documents(10)
    until(completed(client, 10), seconds=15, what="10 completed")
    until(lambda: nothing_is_held(connection), seconds=15, what="Redis holds nothing")
    log = workers.log()
    assert len(re.findall(r"\bERROR\b", log)) == len(INTERNAL_MISFITS)
    assert not re.search("Retrying|Retries exceeded|Traceback|zz", log)
    assert not DeadLetter.select().exists()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_misfit_while_sql_is_away(client: Any, start: Callable[..., Workers]) -> None:
    """What can't be recorded now is looked at again later; that is no attempt."""
    from pipeline.database import database

    workers = start(blockchain_mock_enabled="true")
    database.execute_sql("ALTER TABLE writes RENAME TO moved")
    id_ = send_raw("hash_verify", "m1")
    until(lambda: "not recorded yet" in workers.log(), seconds=15, what="a failed try")
    database.execute_sql("ALTER TABLE moved RENAME TO writes")
    until(lambda: DeadLetter.select().count() == 1, seconds=20, what="a dead letter")
    assert (DeadLetter.get().job_id, DeadLetter.get().attempts) == (id_, 1)


@pytest.mark.one_database
def test_replays_keep_their_priority(
    client: Any, start: Callable[..., Workers], connection: redis.Redis
) -> None:
    """What is replayed, by hand or by itself, goes to the queue of its priority."""
    from pipeline.deadletters import replay_all
    from pipeline.errors import NodeUnreachable
    from pipeline.ledger import dead_letters

    start(blockchain_mock_enabled="true", dead_letter_auto_replay="true").stop()
    queue_documents(4)
    Write.update(priority="urgent").where(Write.credential_id.in_(["c0", "c1"])).execute()

    def listed_after(replay: Callable[[], object]) -> list[int]:
        ids = [write.id for write in Write.select()]
        dead_letters.bury(ids, NodeUnreachable("x"), state="queued", stage="hash_verify")
        connection.delete("dramatiq:urgent", "dramatiq:hash_verify")
        replay()
        return [connection.llen("dramatiq:urgent"), connection.llen("dramatiq:hash_verify")]

    assert listed_after(replay_all) == [1, 1]
    assert listed_after(reconciliation.reconcile) == [1, 1]

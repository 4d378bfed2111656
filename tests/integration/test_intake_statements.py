"""Promise: fresh writes cost one statement; whatever is not fresh is queued as if there were no such."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.database import database, is_sqlite
from pipeline.errors import ConflictingWrite, InvalidDataHash, UnknownCredential
from pipeline.intake import WriteRequest
from pipeline.ledger import counts, fresh, queueing
from pipeline.merkle import leaf_hash
from pipeline.middleware.shapes import is_uuid
from pipeline.models import Credential, DeadLetter, State, Write
from tests.databases import on_postgresql, use_url
from tests.intake import (
    CID,
    HASH,
    OTHER_HASH,
    PREPARED_AFTER,
    fail,
    finish,
    insert_row,
    messages,
    metadata_of,
    requests,
    writes,
)
from tests.racing import in_threads
from tests.waiting import until

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%queue_fresh%'"

COMPLETED = """
INSERT INTO writes (job_id, credential_id, data_hash, salt, leaf, priority, own_message, state, attempts,
    queued_at, updated_at, finished_at, sent_at)
VALUES ('before', 'c0', %s, 'salt', 'leaf', 'normal', false, 'confirmed', 1, 1, 1, 1, 1)
"""


@contextmanager
def statements() -> Iterator[list[str]]:
    """The words that the driver is told to say to the database meanwhile, but for BEGIN and COMMIT."""
    seen: list[str] = []
    server, execute = database.obj, database.obj.execute_sql

    def record(sql: str, params: Any = None) -> Any:
        seen.append(sql)
        return execute(sql, params)

    server.execute_sql = record
    try:
        yield seen
    finally:
        del server.execute_sql


# --- how many ----------------------------------------------------------------------------------


def test_a_send_is_one_statement(credential: str) -> None:
    """On PostgreSQL it is its own transaction too: one round trip in all. On SQLite none is one."""
    from pipeline.actors import hash_verify

    with statements() as seen:
        hash_verify.send(credential, HASH, CID)
    assert seen == ([fresh.SQLITE_INSERT_ONE, fresh.SQLITE_MARK_ONE_PENDING] if is_sqlite() else [fresh.ONE])


@on_postgresql
def test_a_send_is_one_round_trip(client: Any, tmp_path: Path) -> None:
    """As the driver's own record of what it says to the server has it: one end of a request for each."""
    names = [f"c{number}" for number in range(20)]
    for name in names:
        insert_row(name)
    for name in names[:PREPARED_AFTER]:
        client.write_to_blockchain_queued(name, HASH)
    record = tmp_path / "trace"
    with record.open("wb") as file:
        server = database.connection().pgconn
        server.trace(file.fileno())
        for name in names[PREPARED_AFTER:]:
            client.write_to_blockchain_queued(name, HASH)
        server.untrace()
    said = [line.split("\t") for line in record.read_text().splitlines()]
    ends = [fields for fields in said if "F" in fields and {"Sync", "Query"} & set(fields)]
    assert len(ends) == len(names) - PREPARED_AFTER


@pytest.mark.parametrize("count", [fresh.PART, fresh.CHUNK, fresh.CHUNK + 1])
def test_many_are_a_statement_a_part(client: Any, count: int) -> None:
    """In one transaction, whatever there are; on SQLite an insert each, which is no round trip."""
    items = [(request.credential_id, request.data_hash) for request in requests(count)]
    with statements() as seen:
        jobs = client.write_many_to_blockchain_queued(items)
    if is_sqlite():
        inserts = (fresh.SQLITE_INSERT, fresh.SQLITE_INSERT_ONE)
        assert len([sql for sql in seen if sql in inserts]) == count
    else:  # parts go past peewee, and nothing else is asked
        assert seen == ([fresh.MANY] if count == fresh.PART else [])
    assert [write.job_id for write in writes()] == jobs


@on_postgresql
def test_parts_are_sent_without_waiting(client: Any, tmp_path: Path) -> None:
    """The driver says BEGIN, the parts and COMMIT: three ends of a request for a thousand credentials."""
    items = [(request.credential_id, request.data_hash) for request in requests(fresh.CHUNK)]
    record = tmp_path / "trace"
    with record.open("wb") as file:
        server = database.connection().pgconn
        server.trace(file.fileno())
        client.write_many_to_blockchain_queued(items)
        server.untrace()
    said = [line.split("\t") for line in record.read_text().splitlines()]
    assert len([fields for fields in said if "F" in fields and {"Sync", "Query"} & set(fields)]) == 3


@on_postgresql
def test_several_chunks(ledger: str) -> None:
    """What is not in parts: locks for all, by which they are in one order, and then a statement a chunk."""
    asked = requests(2 * fresh.CHUNK + 1)
    with statements() as seen:
        queued = queueing.queue(asked)
    calls = [sql for sql in seen if sql in (fresh.ONE, fresh.MANY)]
    assert calls == [fresh.MANY, fresh.MANY, fresh.ONE]
    assert [write.job_id for write in writes()] == [write.job_id for write in queued]


# --- what is stored ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7])
def test_a_fresh_write_is_as_any_other(ledger: str, count: int) -> None:
    """Each column is what the general way writes, in the order of the requests."""
    asked = requests(count, ipfs_cid=CID, priority="urgent")
    queued = queueing.queue(asked, own_message=True, due_at=2.0**33)
    general = [queueing._new_row(r, "", own_message=True, due_at=2.0**33) for r in asked]
    for request, answer, row, write in zip(asked, queued, general, writes(), strict=True):
        assert answer == queueing.QueuedWrite(
            write.job_id, request.credential_id, write.id, "urgent", needs_message=True, duplicate=False
        )
        assert is_uuid(write.job_id)
        for name in set(row) - {"job_id", "salt", "leaf", "queued_at", "updated_at"}:
            assert getattr(write, name) == row[name], name
        assert (write.deliveries, write.batch_id, write.requested_at) == (0, None, None)
        assert abs(write.queued_at - row["queued_at"]) < 60
        assert write.updated_at == write.queued_at
        leaf = leaf_hash(request.credential_id, bytes.fromhex(request.data_hash), CID, bytes(write.salt))
        assert bytes(write.leaf) == leaf
        assert metadata_of(request.credential_id) == {"blockchain_status": "pending"}
    assert len({bytes(write.salt) for write in writes()}) == count
    assert counts.read()["delayed"] == count


def test_job_ids_are_random_uuids() -> None:
    """Version 4, variant 1, as RFC 9562 has them, and none twice."""
    from uuid import RFC_4122, UUID

    found = fresh.new_job_ids(5000)
    assert len(set(found)) == len(found)
    assert {(UUID(text).version, UUID(text).variant) for text in found} == {(4, RFC_4122)}
    assert all(str(UUID(text)) == text for text in found)
    assert {text[19] for text in found} == set("89ab")


# --- what is not fresh -------------------------------------------------------------------------


def unknown() -> None:
    """The credential is not there: refused, and the fresh one beside it too."""
    Credential.insert(id="c9", metadata="{}").execute()
    for asked in (["nobody"], ["c9", "nobody"]):
        with pytest.raises(UnknownCredential, match="'nobody'"):
            queueing.queue([WriteRequest.of(name, HASH) for name in asked])
    assert Write.select().count() == 1
    assert metadata_of("c9") == {}


def pending() -> None:
    """The same job."""
    [first] = queueing.queue([WriteRequest.of("c0", HASH)])
    assert (first.job_id, first.duplicate, first.needs_message) == (writes()[0].job_id, True, False)


def conflicting() -> None:
    """Other content has to wait."""
    with pytest.raises(ConflictingWrite):
        queueing.queue([WriteRequest.of("c0", OTHER_HASH)])


def more_urgent() -> None:
    """The row is raised."""
    [again] = queueing.queue([WriteRequest.of("c0", HASH, priority="urgent")])
    assert (again.needs_message, writes()[0].priority) == (True, "urgent")


def completed() -> None:
    """Anchored already."""
    finish("c0")
    [again] = queueing.queue([WriteRequest.of("c0", HASH)])
    assert (again.duplicate, again.needs_message) == (True, False)


def new_content() -> None:
    """A second write, once the first is through."""
    finish("c0")
    [other] = queueing.queue([WriteRequest.of("c0", OTHER_HASH)])
    assert [write.job_id for write in writes()][1:] == [other.job_id]


def failed() -> None:
    """A replay under the old job id."""
    fail("c0")
    [again] = queueing.queue([WriteRequest.of("c0", HASH)])
    assert (again.job_id, again.needs_message) == (writes()[0].job_id, True)
    assert DeadLetter.select().where(DeadLetter.resolved_at.is_null()).count() == 0


def superseded() -> None:
    """New content closes the letter of the old."""
    fail("c0")
    [other] = queueing.queue([WriteRequest.of("c0", OTHER_HASH)])
    assert not other.duplicate
    assert [letter.resolution for letter in DeadLetter.select()] == ["superseded"]


def unheard() -> None:
    """What is left of a message that never became a write is no write, but its letter is closed."""

    Credential.insert(id="c9", metadata="{}").execute()
    queueing.refuse_malformed("m1", {"credential_id": "c9"}, InvalidDataHash("none"), stage="hash_verify")
    [new] = queueing.queue([WriteRequest.of("c9", HASH)])
    assert not new.duplicate
    assert [letter.resolution for letter in DeadLetter.select()] == ["superseded"]


def twice() -> None:
    """The same in one list: one write, and the first to ask has made it."""
    Credential.insert(id="c9", metadata="{}").execute()
    made = queueing.queue([WriteRequest.of("c9", HASH), WriteRequest.of("c9", HASH, priority="urgent")])
    assert made[0].job_id == made[1].job_id
    assert [queued.duplicate for queued in made] == [False, True]
    assert Write.get(Write.credential_id == "c9").priority == "urgent"


WAYS_BACK: list[Callable[[], None]] = [
    unknown,
    pending,
    conflicting,
    more_urgent,
    completed,
    new_content,
    failed,
    superseded,
    unheard,
    twice,
]


@pytest.mark.parametrize("way", WAYS_BACK)
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_not_fresh_goes_the_general_way(client: Any, way: Callable[[], None], inside: bool) -> None:
    """Also within the issuer's transaction, which can go on afterwards."""
    insert_row("c0")
    client.write_to_blockchain_queued("c0", HASH)
    if not inside:
        way()
        return
    with database.atomic():
        way()
        insert_row("another")
    assert Credential.select().where(Credential.id == "another").count() == 1


def test_one_among_many_that_is_not_fresh(client: Any, redis_url: str) -> None:
    """Its chunk goes the general way, the others do not; nobody can tell by the answer."""
    asked = requests(fresh.CHUNK + 5)
    old = client.write_to_blockchain_queued(asked[3].credential_id, asked[3].data_hash)
    before = len(messages(redis_url))
    queued = queueing.queue(asked)
    assert [write.credential_id for write in queued] == [request.credential_id for request in asked]
    assert [n for n, write in enumerate(queued) if write.duplicate] == [3]
    assert queued[3].job_id == old
    by_job = {write.job_id: write for write in writes()}
    assert [by_job[q.job_id].id for q in queued] == [q.write_id for q in queued]
    assert (len(by_job), before) == (len(asked), 1)
    assert {row.metadata for row in Credential.select()} <= {
        '{"blockchain_status": "pending"}',
        '{"blockchain_status":"pending"}',
    }
    assert counts.read()["waiting"] == len(asked)


def test_the_second_chunk_fails(client: Any) -> None:
    """Nothing of the first one is kept."""
    asked = requests(fresh.CHUNK + 2)
    client.write_to_blockchain_queued(asked[-1].credential_id, OTHER_HASH)
    with pytest.raises(ConflictingWrite):
        queueing.queue(asked)
    assert len(writes()) == 1
    assert metadata_of("c0") == {}
    assert counts.read()["waiting"] == 1


@on_postgresql
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_metadata_that_jsonb_does_not_take(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, database_url: str, inside: bool, count: int
) -> None:
    """The statement fails on it, and neither the issuer's transaction nor its neighbours with it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE credentials (id TEXT PRIMARY KEY, document JSON, data_hash TEXT,"
            " ipfs_cid TEXT, metadata JSON, created_at TIMESTAMPTZ, updated_at TIMESTAMPTZ)"
        )
    use_url(database_url, monkeypatch)
    names = [f"c{number}" for number in range(count)]
    for name in names:
        insert_row(name, metadata=r'{"own": "a\u0000b"}')
    asked = [WriteRequest.of(name, HASH) for name in names]
    if inside:
        with database.atomic():
            queueing.queue(asked)
    else:
        queueing.queue(asked)
    assert [write.state for write in writes()] == [State.QUEUED] * count
    found = [row.metadata for row in Credential.select()]
    assert found == [r'{"own": "a\u0000b", "blockchain_status": "pending"}'] * count
    database.close_all()


def test_a_job_id_from_somewhere_else(ledger: str) -> None:
    """It may be any text; one that is taken is refused as ever."""
    import peewee as pw

    insert_row("c0")
    insert_row("c1")
    [queued] = queueing.queue([WriteRequest.of("c0", HASH)], job_ids=["a\nb é"], own_message=True)
    assert (queued.job_id, writes()[0].job_id) == ("a\nb é", "a\nb é")
    with pytest.raises(pw.IntegrityError):
        queueing.queue([WriteRequest.of("c1", HASH)], job_ids=["a\nb é"], own_message=True)
    assert metadata_of("c1") == {}


@pytest.mark.parametrize("count", [1, 3])
def test_many_hand_in_the_same_at_once(ledger: str, count: int) -> None:
    """One of them makes the writes, the others find them: no error, nothing twice."""
    asked = requests(count)
    outcomes: list[Any] = in_threads(8, lambda _: queueing.queue(asked))
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert len(writes()) == count
    assert len({tuple(queued.job_id for queued in outcome) for outcome in outcomes}) == 1
    assert sum(not outcome[0].duplicate for outcome in outcomes) == 1


@on_postgresql
def test_who_waits_for_a_lock_sees_what_came_before(ledger: str, admin: psycopg.Connection[Any]) -> None:
    """Another one queues and completes the same meanwhile: who waited for him does not anchor it again.

    No index keeps a second write out: only a statement that begins after the wait can see the first.
    """
    asked = requests(1)

    def completed_meanwhile() -> None:
        with psycopg.connect(ledger) as other:
            other.execute("SELECT 1 FROM credentials FOR UPDATE")
            locked.set()
            until(lambda: admin.execute(WAITING).fetchone() is not None, seconds=9, what="somebody waits")
            other.execute(COMPLETED, [asked[0].data_hash])

    locked = threading.Event()
    thread = threading.Thread(target=completed_meanwhile)
    thread.start()
    assert locked.wait(9)
    [queued] = queueing.queue(asked)
    thread.join()
    assert (queued.job_id, queued.duplicate) == ("before", True)
    assert len(writes()) == 1

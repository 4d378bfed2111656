"""Promise: what is erased is gone as bytes, from the SQLite file, its log, and Redis with its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq.results import ResultMissing

from pipeline import database, testing
from pipeline.actors import hash_verify
from pipeline.embedded.valkey import ValkeyServer
from pipeline.erasure import erase
from pipeline.errors import ErasureIncomplete
from pipeline.hashing import document_hash
from pipeline.ledger import erasure
from pipeline.models import Credential
from tests.databases import on_sqlite
from tests.erasing import Secret, end_all, salts_of, send, word
from tests.ledger import everything
from tests.racing import in_threads
from tests.waiting import until

blockchain_queue = testing.blockchain_queue


@pytest.fixture
def secret(client: Any, use: Callable[..., None]) -> Secret:
    """A credential ``c1`` that was issued twice, with two documents, each anchored; and one beside it."""
    use(blockchain_mock_enabled="true")
    if database.is_sqlite():  # some builds overwrite what is deleted; by default it is not
        database.database.execute_sql("PRAGMA secure_delete = OFF")
    words = (word(), word())
    for number, name in enumerate(words):
        # At its end, which a shorter document does not overwrite.
        send("c1", {"photo": f"{number}" * 20_000, "name": name})
        send(f"other{number}", {"name": "Grace", "photo": "x" * 20_000})
        end_all()
    Credential.delete().where(Credential.id == "other0").execute()
    return Secret(words, salts_of("c1"))


@pytest.fixture
def sqlite_files(tmp_path: Path) -> list[Path]:
    """All that SQLite keeps."""
    return [tmp_path / f"credentials.db{end}" for end in ("", "-wal", "-shm")]


@on_sqlite
def test_the_sqlite_file(secret: Secret, sqlite_files: list[Path]) -> None:
    """Not even the document that was replaced before, whose place is free and not overwritten."""
    assert all(path.exists() for path in sqlite_files)
    assert secret.found_in_files(*sqlite_files) == secret.all
    assert erase("c1") == 2
    assert all(path.exists() for path in sqlite_files)
    assert secret.found_in_files(*sqlite_files) == set()
    assert Secret(("Grace",), salts_of("other1")).found_in_files(sqlite_files[0]) == {"Grace", "salt 0"}


@on_sqlite
def test_a_file_in_which_the_old_is_free_space(secret: Secret, sqlite_files: list[Path]) -> None:
    """Everything was checkpointed into the file long ago."""
    database.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    Credential.update(document="{}").where(Credential.id == "c1").execute()
    database.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.found_in_files(sqlite_files[0]) >= {secret.words[1], "salt 0", "salt 1"}
    assert erase("c1") == 2
    assert secret.found_in_files(*sqlite_files) == set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other people's locks are not waited for as long as usual."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.2)


@on_sqlite
def test_somebody_reads(impatient: None, secret: Secret, sqlite_files: list[Path]) -> None:
    """An error says that a copy may be left; the same again, when nobody reads any more, finishes it."""
    reader = sqlite3.connect(sqlite_files[0], isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM credentials").fetchone()
    with pytest.raises(ErasureIncomplete, match=r"the database file .somebody reads it"):
        erase("c1")
    reader.close()
    assert secret.found_in_files(*sqlite_files) == secret.all
    assert Credential.get_by_id("c1").document is None
    assert erase("c1") == 0
    assert secret.found_in_files(*sqlite_files) == set()


@on_sqlite
def test_somebody_writes(impatient: None, secret: Secret, sqlite_files: list[Path]) -> None:
    """The same, where a lock comes up between the rows and the file."""
    erasure.erase("c1", actor="Kurt")
    writer = sqlite3.connect(sqlite_files[0], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert erasure.scrub() == "database is locked"
    writer.close()
    assert erasure.scrub() is None
    assert secret.found_in_files(*sqlite_files) == set()


@on_sqlite
def test_many_at_the_file_at_once(secret: Secret, sqlite_files: list[Path]) -> None:
    """SQLite refuses to empty its log while another one does, without a wait: it is tried again."""
    erasure.erase("c1", actor="Kurt")
    for _ in range(10):
        assert in_threads(6, lambda _: erasure.scrub()) == [None] * 6
    assert secret.found_in_files(*sqlite_files) == set()


def test_the_rows(secret: Secret) -> None:
    """Of every table, in both databases: what SQL can do."""
    rows = repr(everything()).encode()
    assert secret.words[1].encode() in rows
    erase("c1")
    rows = repr(everything()).encode()
    assert [word for word in secret.words if word.encode() in rows] == []
    assert [salt for salt in secret.salts if repr(salt).encode() in rows] == []


def test_redis(secret: Secret, redis_url: str, valkey_server: ValkeyServer) -> None:
    """Its keys, whatever they are, and its append-only file, which is written anew."""
    salts = {"salt 0", "salt 1"}
    with redis.Redis.from_url(redis_url) as connection:
        assert {connection.type(key) for key in connection.keys("*")} >= {b"list", b"hash"}
        assert secret.found_in_keys(connection) == salts
        assert secret.found_in_files(valkey_server.directory) == salts
        assert erase("c1") == 2
        assert secret.found_in_keys(connection) == set()
    # Redis deletes the file before in the background.
    until(lambda: not secret.found_in_files(valkey_server.directory), seconds=10, what="the salts are gone")


@on_sqlite
def test_a_redis_that_can_not_write_its_files(
    secret: Secret, start_valkey: Callable[..., ValkeyServer], use: Callable[..., None]
) -> None:
    """An error says so; the same again, once it can, finishes it."""
    server = start_valkey(append_only=False)
    use(redis_url=server.url)
    obstacle = server.directory / "dump.rdb" / "in the way"
    obstacle.mkdir(parents=True)
    with redis.Redis.from_url(server.url) as connection:
        connection.config_set("save", "3600 1")
        with pytest.raises(ErasureIncomplete, match=r"Redis \(its snapshot could not be written anew\)"):
            erase("c1")
        obstacle.rmdir()
        obstacle.parent.rmdir()
        assert erase("c1") == 0


@pytest.fixture
def limited_url(redis_url: str, valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of a user that may not touch Redis's files, as on a managed server."""
    with redis.Redis.from_url(redis_url) as connection:
        connection.execute_command("ACL SETUSER limited on >secret ~* &* +@all -bgrewriteaof")
        yield redis_url.replace("unix://", "unix://limited:secret@")
        connection.execute_command("ACL DELUSER limited")


@on_sqlite
def test_a_redis_that_forbids_it(
    secret: Secret, limited_url: str, use: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The keys go all the same, and the log has a warning."""
    use(redis_url=limited_url)
    assert erase("c1") == 2
    assert [record.levelno for record in caplog.records if "renew its files" in record.message] == [30]
    with redis.Redis.from_url(limited_url) as connection:
        assert secret.found_in_keys(connection) == set()


def test_an_issuers_own_tests(blockchain_queue: Any) -> None:
    """Without any server; the result in memory goes, too."""
    document = {"name": word()}
    job_id = send("c1", document)
    blockchain_queue.run()
    message = hash_verify.message("c1", document_hash(document)).copy(message_id=job_id)
    assert message.get_result()["leaf_salt"]
    assert erase("c1") == 1
    with pytest.raises(ResultMissing):
        message.get_result()

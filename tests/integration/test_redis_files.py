"""Promise: once Redis's files are written anew, nothing is in them that was removed before."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pipeline import redis_files
from pipeline.embedded.valkey import ValkeyServer
from pipeline.redis_files import NotRenewed
from tests.erasing import Secret
from tests.waiting import until

KEY = "a key"


@pytest.fixture
def secret() -> Secret:
    """What is removed."""
    return Secret((secrets.token_hex(32),), ())


def gone(secret: Secret, server: ValkeyServer) -> None:
    """Redis deletes replaced files in the background."""
    until(lambda: not secret.found_in_files(server.directory), seconds=10, what="it is gone")


@pytest.mark.parametrize("append_only", [True, False])
@pytest.mark.parametrize("save", ["3600 1", ""])
def test_the_files_in_use(
    start_valkey: Callable[..., ValkeyServer], secret: Secret, append_only: bool, save: str
) -> None:
    """Append-only file, snapshot, both; and none is made where none is used."""
    server = start_valkey(append_only=append_only)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("save", save)
        client.set(KEY, secret.words[0])
        if save:
            client.save()
        assert bool(secret.found_in_files(server.directory)) == bool(append_only or save)
        client.delete(KEY)
        redis_files.renew(client)
        gone(secret, server)
    assert (server.directory / "dump.rdb").exists() == bool(save)


def test_a_rewrite_that_has_begun_before(start_valkey: Callable[..., ValkeyServer], secret: Secret) -> None:
    """It has what was removed meanwhile: another one follows it."""
    server = start_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"other {number}": "x" for number in range(20)})
        client.set(KEY, secret.words[0])
        client.config_set("rdb-key-save-delay", 50_000)  # microseconds a key
        client.bgrewriteaof()
        client.delete(KEY)
        info: Any = client.info("persistence")
        assert info["aof_rewrite_in_progress"] == 1
        client.config_set("rdb-key-save-delay", 0)
        redis_files.renew(client)
        gone(secret, server)


def test_one_that_takes_too_long(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for for ever, and an error says so."""
    monkeypatch.setattr(redis_files, "WAIT_SECONDS", 0.1)
    server = start_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"other {number}": "x" for number in range(20)})
        client.config_set("rdb-key-save-delay", 50_000)
        with pytest.raises(NotRenewed, match=r"its append-only file is not written anew after 0\.1 s"):
            redis_files.renew(client)
        info: Any = client.info("persistence")
        assert info["aof_rewrite_in_progress"] == 1
        client.config_set("rdb-key-save-delay", 0)


@pytest.mark.parametrize("obstacle", ["appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof"])
def test_a_rewrite_that_fails(
    start_valkey: Callable[..., ValkeyServer], secret: Secret, obstacle: str
) -> None:
    """At its end, or before it begins; the snapshot is written anew all the same."""
    server = start_valkey()
    (server.directory / "appendonlydir" / obstacle / "in the way").mkdir(parents=True)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("save", "3600 1")
        client.set(KEY, secret.words[0])
        client.save()
        client.delete(KEY)
        with pytest.raises(NotRenewed, match=r"^its append-only file could not be written anew$"):
            redis_files.renew(client)
    assert secret.found_in_files(server.directory) == secret.all
    assert secret.found_in_files(server.directory / "dump.rdb") == set()


def test_a_snapshot_that_fails(start_valkey: Callable[..., ValkeyServer]) -> None:
    """The error says so, until it succeeds."""
    server = start_valkey()
    obstacle = server.directory / "dump.rdb" / "in the way"
    obstacle.mkdir(parents=True)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("save", "3600 1")
        with pytest.raises(NotRenewed, match=r"^its snapshot could not be written anew$"):
            redis_files.renew(client)
        obstacle.rmdir()
        obstacle.parent.rmdir()
        redis_files.renew(client)


def test_one_that_is_forbidden(
    start_valkey: Callable[..., ValkeyServer], secret: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a warning, and the other file is written anew."""
    server = start_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("save", "3600 1")
        client.set(KEY, secret.words[0])
        client.save()
        client.delete(KEY)
        client.execute_command("ACL SETUSER limited on >secret ~* &* +@all -bgrewriteaof")
        with redis.Redis.from_url(server.url.replace("unix://", "unix://limited:secret@")) as limited:
            redis_files.renew(limited)
    assert [record.levelno for record in caplog.records if "renew its files" in record.message] == [30]
    assert secret.found_in_files(server.directory / "dump.rdb") == set()

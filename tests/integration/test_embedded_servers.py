"""Promise: an embedded server keeps its data and address over a kill, and says why it did not start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.server import Server, ServerFailed
from pipeline.embedded.valkey import ValkeyServer


@pytest.mark.parametrize("options", [{}, {"tcp": True}])
def test_valkey_keeps_its_data_over_a_kill(
    start_valkey: Callable[..., ValkeyServer], options: dict[str, bool]
) -> None:
    """What was written before the append-only file's last second is there after SIGKILL."""
    server = start_valkey(**options)
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
        client.execute_command("WAITAOF", 1, 0, 5000)
    server.kill()
    with redis.Redis.from_url(server.start().url) as client:
        assert client.get("kept") == b"yes"


def test_valkey_without_append_only_file_forgets(start_valkey: Callable[..., ValkeyServer]) -> None:
    """The option for tests of a Redis that loses everything."""
    server = start_valkey(append_only=False)
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "no")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    server.kill()
    with redis.Redis.from_url(server.start().url) as client:
        assert client.get("kept") is None


def test_valkey_in_a_deep_folder_listens_on_tcp(new_directory: Callable[[str], Path]) -> None:
    """A Unix socket's path has at most 103 bytes; the password keeps other users out."""
    with ValkeyServer(new_directory("valkey") / ("deep" * 30)) as server:
        assert server.url.startswith("redis://")
        url = f"redis://127.0.0.1:{server.port}"
        with redis.Redis.from_url(url) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_postgres_keeps_its_data_over_a_kill(new_directory: Callable[[str], Path]) -> None:
    """A committed row survives SIGKILL of the server, also without fsync."""
    with PostgresServer(new_directory("postgres"), durable=False) as server:
        url = server.create_database("kept")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        server.kill()
        server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT a FROM t").fetchone() == (1,)


def test_postgres_asks_for_the_password(postgres_server: PostgresServer) -> None:
    """Other users of the machine can't log in."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=postgres_server.port, user="postgres", password="wrong")


def test_postgres_refuses_a_name_that_is_sql(postgres_server: PostgresServer) -> None:
    """Database names go into SQL, so only plain ones are taken."""
    with pytest.raises(ValueError, match="not a name"):
        postgres_server.create_database('x"; DROP DATABASE postgres; --')


class Broken(Server):
    """A server that ends with a complaint, or never answers."""

    name = "broken"
    start_timeout_seconds = 0.5

    def __init__(self, directory: Path, script: str) -> None:
        super().__init__(directory)
        self.script = script

    def _command(self) -> list[str]:
        return ["sh", "-c", self.script]

    def _is_ready(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo the disk is full; exit 3", r"(?s)exit code 3.*the disk is full"),
        ("echo still thinking; sleep 60", r"(?s)does not answer.*still thinking"),
    ],
)
def test_a_failed_start_says_why(tmp_path: Path, script: str, message: str) -> None:
    """The message ends with the tail of the server's log, and nothing is left running."""
    server = Broken(tmp_path, script)
    with pytest.raises(ServerFailed, match=message):
        server.start()
    with pytest.raises(ServerFailed, match="not running"):
        _ = server.pid


def test_a_missing_program_says_so(tmp_path: Path) -> None:
    """A command that is not there is an error of the start, not a time-out."""

    class Missing(Broken):
        def _command(self) -> list[str]:
            return ["no-such-program"]

    with pytest.raises(ServerFailed, match="no-such-program can not be started"):
        Missing(tmp_path, "").start()

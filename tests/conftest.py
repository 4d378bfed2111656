"""Fixtures for all tests: real servers, each empty when a test gets it.

Nothing here skips: a server that can not be started is a failure.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.embedded.evm import EvmServer
from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Workers
from pipeline.settings import Settings, get_settings
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.servers.kent import Kent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Some tests prove the same with less, unless this is given."""
    parser.addoption(
        "--full-size", action="store_true", help="run the slowest tests with the sizes that are promised"
    )


@pytest.fixture
def full_size(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests are to be as large as promised, and not as large as CI has time for."""
    return bool(request.config.getoption("--full-size"))


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A folder for the servers' data: a short path (Unix sockets), reachable for every user."""
    path = Path(tempfile.mkdtemp(prefix="cp-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def new_directory(server_directory: Path) -> Callable[[str], Path]:
    """Make a fresh folder in `server_directory` whose name begins with the argument."""
    return lambda name: Path(tempfile.mkdtemp(prefix=f"{name}-", dir=server_directory))


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let neither the developer's environment nor the ``.env`` in the repository decide how a test ends."""
    monkeypatch.chdir(tmp_path)
    for variable in Settings.model_fields:
        monkeypatch.delenv(variable.upper(), raising=False)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def valkey_server(server_directory: Path) -> Iterator[ValkeyServer]:
    """The Valkey that all tests share. To kill one, or to change its settings, see `start_valkey`."""
    with ValkeyServer(server_directory / "valkey") as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The URL of an empty Valkey that is this test's alone: FLUSHALL is allowed."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
        client.script_flush()
    return valkey_server.url


@pytest.fixture
def start_valkey(new_directory: Callable[[str], Path]) -> Iterator[Callable[..., ValkeyServer]]:
    """Start a Valkey of the test's own, with the options of `ValkeyServer`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(ValkeyServer(new_directory("valkey"), **options))


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests share; each test has its own database in it."""
    with PostgresServer(server_directory / "postgres", durable=False) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'credentials.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; the test runs once for each kind.

    For one kind only: ``@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)``.
    """
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def start_anvil(new_directory: Callable[[str], Path]) -> Iterator[Callable[..., Anvil]]:
    """Start an anvil with the options of `Anvil`; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Anvil(new_directory("anvil"), **options))


@pytest.fixture
def anvil(start_anvil: Callable[..., Anvil]) -> Anvil:
    """A fresh anvil that mines each transaction at once."""
    return start_anvil()


@pytest.fixture
def start_fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Start a proxy before the nodes with these URLs, with the options of `FaultProxy`."""
    with ExitStack() as stack:
        yield lambda *urls, **options: stack.enter_context(FaultProxy(*urls, **options))


@pytest.fixture(scope="session")
def evm_server(server_directory: Path) -> Iterator[EvmServer]:
    """The embedded EVM, shared: its chain goes on from test to test."""
    with EvmServer(server_directory / "evm") as server:
        yield server


@pytest.fixture(scope="session")
def kent_server(server_directory: Path) -> Iterator[Kent]:
    """The fake Sentry that all tests share."""
    with Kent(server_directory / "kent") as server:
        yield server


@pytest.fixture
def kent(kent_server: Kent) -> Kent:
    """A fake Sentry without events."""
    kent_server.flush()
    return kent_server


@pytest.fixture
def worker_environment() -> Callable[..., dict[str, str]]:
    """The environment for a worker or a command: this process's, less its settings, plus the arguments.

    Each keyword is a variable in lower case; values become text.
    """

    def make(**variables: Any) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
        return clean | {key.upper(): str(value) for key, value in variables.items()}

    return make


@pytest.fixture
def start_workers(new_directory: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """Start real Dramatiq workers with the options of `Workers`; they are killed with the test's end.

    To let them end by themselves takes seconds, and has tests of its own.
    """
    with ExitStack() as stack:

        def start(**options: Any) -> Workers:
            workers = Workers(new_directory("workers"), **{"working_directory": tmp_path} | options)
            stack.callback(workers.kill)
            return workers.start()

        yield start


@pytest.fixture
def client(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`pipeline.client` on empty servers."""
    from pipeline import client
    from pipeline.status import tree_of

    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    get_settings.cache_clear()
    client.shutdown_blockchain_queue()
    tree_of.cache_clear()
    yield client
    client.shutdown_blockchain_queue()

"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pipeline.chain.client import chain_client
from pipeline.database import database
from pipeline.settings import get_settings
from pipeline.status import tree_of
from tests.chain import AnyServer
from tests.intake import insert_row
from tests.issuer import chain_variables
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The project's database, empty, without Redis; its URL."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    get_settings.cache_clear()
    database.close_all()
    tree_of.cache_clear()
    yield database_url
    database.close_all()


@pytest.fixture
def use(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make the arguments this process's settings."""

    def set_all(**variables: object) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name.upper(), str(value))
        get_settings.cache_clear()
        chain_client.cache_clear()

    yield set_all
    chain_client.cache_clear()


@pytest.fixture
def proxy(use: Callable[..., None], anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """Before an anvil that mines only when it is told to; settings of single writes through it."""
    found = start_fault_proxy(anvil.rpc_url, anvil.rpc_url)
    use(**chain_variables(anvil, rpc_url=found.url), batch_max_size=1, rate_limit_max=10_000)
    use(blockchain_max_in_flight=500)
    anvil.stop_mining()
    return found


@pytest.fixture
def credential(client: Any) -> str:
    """The id of a row that another program has inserted, with nothing in it."""
    insert_row("c1")
    return "c1"


@pytest.fixture
def admin(ledger: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to PostgreSQL beside the project's own."""
    with psycopg.connect(ledger, autocommit=True) as connection:
        yield connection


@pytest.fixture(params=["anvil", "evm_server"])
def server(request: pytest.FixtureRequest) -> AnyServer:
    """Each kind of node."""
    found: AnyServer = request.getfixturevalue(request.param)
    return found

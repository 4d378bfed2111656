"""Fixtures of the dashboard's tests: the real server, asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.dashboard.passwords import line_of
from pipeline.embedded.dashboard import DashboardServer
from tests.browsing import Browser, users_file
from tests.command_line import Environment

PASSWORD = "correct horse battery staple"


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite unless a test asks for more."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[getattr(request, "param", "sqlite")]
    return str(request.getfixturevalue(fixture))


@pytest.fixture(scope="session")
def users() -> tuple[str, str]:
    """The lines of an operator, ann, and of a viewer, bob."""
    return line_of("ann", "operator", PASSWORD), line_of("bob", "viewer", PASSWORD)


@pytest.fixture
def password_file(users: tuple[str, str], tmp_path: Path) -> Path:
    """A file with them."""
    return users_file(tmp_path / "users", *users)


@pytest.fixture
def start_dashboard(
    client: Any,
    database_url: str,
    redis_url: str,
    worker_environment: Environment,
    new_directory: Callable[[str], Path],
    tmp_path: Path,
) -> Iterator[Callable[..., DashboardServer]]:
    """Start the dashboard on this test's servers; keywords are variables in lower case."""
    with ExitStack() as stack:

        def start(**variables: object) -> DashboardServer:
            common = {"database_url": database_url, "redis_url": redis_url, "blockchain_mock_enabled": "true"}
            server = DashboardServer(
                new_directory("dashboard"),
                environment=worker_environment(**common | variables),
                working_directory=tmp_path,
            )
            stack.callback(server.kill)
            return server.start()

        yield start


@pytest.fixture
def open_dashboard(start_dashboard: Callable[..., DashboardServer]) -> Browser:
    """One without passwords, on the loopback address."""
    return Browser(start_dashboard().url)


@pytest.fixture
def guarded_dashboard(start_dashboard: Callable[..., DashboardServer], password_file: Path) -> Browser:
    """One with ann and bob; nobody is logged in yet."""
    return Browser(start_dashboard(dashboard_password_file=password_file).url)

"""Fixtures of the tests of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Ended, Environment, Run


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite unless a test asks for more: one kind will do for what is said and how it ends."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[getattr(request, "param", "sqlite")]
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def environment(
    client: Any, database_url: str, redis_url: str, worker_environment: Environment
) -> dict[str, str]:
    """The settings of this test's servers, in mock mode."""
    return worker_environment(database_url=database_url, redis_url=redis_url, blockchain_mock_enabled="true")


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a command to its end; keywords are variables in lower case, ``stdin`` is text."""

    def call(*arguments: object, stdin: str = "", **variables: object) -> Ended:
        command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
        changed = {name.upper(): str(value) for name, value in variables.items()}
        return Ended(
            subprocess.run(
                command,
                env=environment | changed,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
                check=False,
            )
        )

    return call

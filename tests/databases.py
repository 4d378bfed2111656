"""What tests do to databases: choose the kind, go on with another URL, cut a session."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pipeline.database import database
from pipeline.settings import get_settings
from tests.waiting import until

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def use_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with this DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", url)
    get_settings.cache_clear()
    database.close_all()


def terminate(admin: psycopg.Connection[Any], pid: int) -> None:
    """Cut a session, and wait for its end."""
    admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    until(lambda: not alive(admin, pid), seconds=10, what="the session is ended")


def alive(admin: psycopg.Connection[Any], pid: int) -> bool:
    """Whether the server has this session."""
    return admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None

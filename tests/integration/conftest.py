"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.database import database
from pipeline.settings import get_settings


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The project's database, empty, without Redis; its URL."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    get_settings.cache_clear()
    database.close_all()
    yield database_url
    database.close_all()

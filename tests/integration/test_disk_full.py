"""Promise: a full disk under SQLite is said clearly, nothing half is kept, and with room all goes on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.database import database
from pipeline.errors import DatabaseUnavailable
from pipeline.models import Credential, Write
from tests.databases import on_sqlite
from tests.issuer import queue_documents

#: More than fits into the pages that are left.
MANY, PAGES_LEFT = 500, 10


def pragma(name: str) -> Any:
    """The answer of a pragma."""
    return database.execute_sql(f"PRAGMA {name}").fetchone()[0]


@on_sqlite
def test_a_full_disk_under_sqlite(client: Any) -> None:
    """The call fails as a whole, what was there stays and is sound, and the same call passes later."""
    queue_documents(10)
    pragma(f"max_page_count = {pragma('page_count') + PAGES_LEFT}")
    with pytest.raises(DatabaseUnavailable, match="full"):
        queue_documents(MANY, start=10)
    assert (Credential.select().count(), Write.select().count()) == (10, 10)
    assert client.get_job_counts()["waiting"] == 10
    assert pragma("integrity_check") == "ok"
    pragma("max_page_count = 1000000")
    queue_documents(MANY, start=10)
    assert (Credential.select().count(), Write.select().count()) == (10 + MANY, 10 + MANY)

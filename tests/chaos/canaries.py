"""No key, token or personal data is in a log, in Redis, in an alert, a metric, a page or a table (9)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import redis

from pipeline.database import database
from pipeline.embedded.dashboard import DashboardServer
from pipeline.metrics.exposition import render
from tests.browsing import Browser
from tests.chaos.running import Run
from tests.chaos.site import TOKEN, ChaosSite

#: Of each document.
PERSONAL = b"Holder "

#: Where the documents are.
OF_THE_ISSUER = ("credentials",)

PAGES = (
    "/", "/jobs", "/jobs?state=completed", "/jobs?state=failed", "/credential?id=c0", "/batches",
    "/batches/1", "/signer", "/dead-letters", "/audit", "/metrics", "/readyz", "/api/stats",
)  # fmt: skip


def canaries_stay_hidden(run: Run) -> None:
    """Key, token and personal data are in no log, key, file, alert, metric, page or table (invariant 9)."""
    key = str(run.site.variables["blockchain_private_key"]).removeprefix("0x").encode()
    canaries = (key, TOKEN.encode(), PERSONAL)
    for where, content in _written(run.site):
        found = [canary for canary in canaries if canary in content]
        assert not found, f"{where}: {len(found)} of the canaries"


def _written(site: ChaosSite) -> Iterator[tuple[str, bytes]]:
    for one in (*site.masters, site.scheduler):
        assert one is not None
        yield one.server.name, one.server.log_path.read_bytes()
    for path in site.valkey.directory.rglob("*.aof"):
        yield path.name, path.read_bytes()
    yield "Redis", _keys(site)
    yield "Sentry", json.dumps(site.kent.items()).encode()
    yield "metrics", render()[0]
    yield from _pages(site)
    yield from _tables()


def _keys(site: ChaosSite) -> bytes:
    with redis.Redis.from_url(site.valkey.url) as connection:
        return b"\n".join(connection.dump(key) or b"" for key in connection.scan_iter())


def _pages(site: ChaosSite) -> Iterator[tuple[str, bytes]]:
    folder = site.base.new_folder("dashboard")
    with DashboardServer(folder, environment=dict(os.environ), working_directory=Path(folder)) as server:
        browser = Browser(server.url)
        for path in PAGES:
            answer = browser.get(path)
            assert answer.status_code == 200, (path, answer.status_code)
            yield path, answer.content
        browser.close()


def _tables() -> Iterator[tuple[str, bytes]]:
    for table in database.get_tables():
        if table not in OF_THE_ISSUER:
            rows = database.execute_sql(f'SELECT t::text FROM "{table}" AS t').fetchall()
            yield f"table {table}", "\n".join(row[0] for row in rows).encode()

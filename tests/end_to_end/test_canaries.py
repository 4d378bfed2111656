"""Promise: keys, tokens, passwords and documents appear nowhere but where they must."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.credentials import issue
from pipeline.dashboard.passwords import line_of
from pipeline.embedded.dashboard import DashboardServer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Workers
from pipeline.models import DeadLetter, Session
from tests.browsing import Browser, users_file
from tests.erasing import Secret
from tests.intake import OTHER_HASH, insert_row
from tests.issuer import chain_variables, completed
from tests.servers.anvil import Anvil
from tests.servers.kent import Kent
from tests.waiting import until

NAME = "Canary Holder"
TOKEN = "canary-rpc-token"
PASSWORD = "canary dashboard password"

PAGES = (
    "/", "/jobs", "/jobs?state=failed", "/search?q=c1", "/credential?id=c1", "/credential?id=wrong",
    "/batches", "/batches/1", "/signer", "/dead-letters", "/audit", "/metrics", "/readyz",
    "/api/stats", "/api/jobs?state=completed", "/api/jobs/wrong", "/api/history",
)  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("log_level", ["DEBUG"])
def test_no_canary_gets_out(
    client: Any,
    start: Callable[..., Workers],
    start_valkey: Callable[..., ValkeyServer],
    anvil: Anvil,
    kent: Kent,
    new_directory: Callable[[str], Path],
    tmp_path: Path,
    log_level: str,
) -> None:
    """Of a key, an RPC token, a Sentry key, a password, a session and a document: not in Redis, logs,
    Sentry, metrics, pages or answers, after a success, a failure and an outage.
    """
    users, valkey = users_file(tmp_path / "users", line_of("ann", "operator", PASSWORD)), start_valkey()
    variables = chain_variables(anvil, rpc_url=f"{anvil.rpc_url}/?token={TOKEN}")
    dsn = kent.dsn.replace("public", "canarysentrykey")
    workers = start(
        **variables, redis_url=valkey.url, sentry_dsn=dsn, log_level=log_level, dashboard_password_file=users
    )
    client.shutdown_blockchain_queue()
    dashboard = DashboardServer(
        new_directory("dashboard"), environment=os.environ, working_directory=tmp_path
    )
    with dashboard:
        issue("c1", {"name": NAME})
        insert_row("wrong", document=json.dumps({"name": NAME}))
        client.write_to_blockchain_queued("wrong", OTHER_HASH)
        until(completed(client, 1), seconds=30, what="1 completed")
        until(lambda: DeadLetter.select().count() == 1, seconds=30, what="1 dead letter")
        sent = json.dumps(kent.wait_for(1))
        anvil.stop()
        until(lambda: "no node answers" in workers.log(), seconds=30, what="the outage")
        browser = Browser(dashboard.url)
        browser.log_in("ann", "canary wrong password")
        cookie = browser.log_in("ann", PASSWORD).headers["set-cookie"].partition(";")[0].partition("=")[2]
        shown = "".join(browser.get(path).text for path in PAGES)
        csrf_token = str(Session.get().csrf_token)
        assert csrf_token in shown
        said = workers.log() + dashboard.log_path.read_text()
    key = str(variables["blockchain_private_key"]).removeprefix("0x")
    canaries = Secret((key, TOKEN, "canarysentrykey", "canary dashboard", "canary wrong", cookie, NAME), ())
    for where, text in {"pages": shown, "logs": said, "Sentry": sent}.items():
        assert canaries.found_in(text.encode()) == set(), where
    assert csrf_token not in said + sent
    with redis.Redis.from_url(valkey.url) as connection:
        assert canaries.found_in_keys(connection) == set()
    assert canaries.found_in_files(valkey.directory) == set()
    assert canaries.found_in(users.read_bytes()) == set()

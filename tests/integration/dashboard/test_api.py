"""Promise: machines are told the same as the command line, and a probe what is the matter."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import quote

import pytest

from pipeline import client as queue
from pipeline.embedded.dashboard import DashboardServer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.ledger import history
from pipeline.stats import stats
from pipeline.status import jobs
from tests.browsing import Browser
from tests.intake import HASH, fail, insert_row
from tests.issuer import queue_documents
from tests.servers.anvil import Anvil


def test_status_and_lists(open_dashboard: Browser) -> None:
    """As from Python; ids may hold anything that an id may hold."""
    queue_documents(3)
    awkward = "a/b?c=d&e#f%20 é"
    insert_row(awkward)
    queue.write_to_blockchain_queued(awkward, HASH)
    answer = open_dashboard.get("/api/jobs/" + quote(awkward, safe=""))
    assert answer.json() == queue.get_blockchain_write_status(awkward)
    assert open_dashboard.get("/api/jobs?state=waiting").json() == jobs("waiting", 0, 100)
    assert open_dashboard.get("/api/jobs?state=waiting&start=1&end=3").json() == jobs("waiting", 1, 3)
    assert open_dashboard.get("/api/jobs/nobody").status_code == 404
    assert open_dashboard.get("/api/stats").json() == stats()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_nul_is_in_no_name(open_dashboard: Browser) -> None:
    """404, and not that the database was away: PostgreSQL takes no such text."""
    for path in ("/api/jobs/a%00b", "/credential?id=%00", "/dead-letters?stage=%00&error=a"):
        assert open_dashboard.get(path).status_code == 404


def test_a_batch_that_is_none(open_dashboard: Browser) -> None:
    """404, also for a number that Python would not even read."""
    for batch_id in ("0", "-1", "1.5", "x", "9" * 19, "9" * 5000):
        answer = open_dashboard.get(f"/batches/{batch_id}")
        assert answer.status_code == 404
        assert "content-security-policy" in answer.headers


def test_wrong_questions(open_dashboard: Browser) -> None:
    """400, and what is wrong."""
    for wrong in ("", "state=", "state=x", "start=-1", "start=9&end=1", "end=9999", "end=x"):
        query = wrong if "state" in wrong or not wrong else f"state=failed&{wrong}"
        answer = open_dashboard.get(f"/api/jobs?{query}")
        assert (answer.status_code, bool(answer.json()["error"])) == (400, True), query


def test_history(open_dashboard: Browser) -> None:
    """A column for each thing that is plotted, all of one length."""
    history.record(1_700_000_000.0)
    found = open_dashboard.get("/api/history?hours=168").json()
    assert {len(column) for column in found.values()} == {0}
    assert {"minute", "completed", "failed", "latency_p99_seconds", "oldest_pending_seconds"} <= set(found)
    assert open_dashboard.get("/api/history?hours=9999").status_code == 400


def test_ready_with_all_three(
    start_dashboard: Callable[..., DashboardServer],
    start_valkey: Callable[..., ValkeyServer],
    anvil: Anvil,
) -> None:
    """200 while Redis, SQL and the node answer; 503 and which one when it does not; alive all the while."""
    valkey = start_valkey()
    browser = Browser(
        start_dashboard(
            redis_url=valkey.url, blockchain_mock_enabled="false", blockchain_rpc_url=anvil.rpc_url
        ).url
    )
    well = {"redis": True, "database": True, "node": True}
    assert (browser.get("/readyz").status_code, browser.get("/readyz").json()) == (200, well)
    anvil.stop()
    assert (browser.get("/readyz").status_code, browser.get("/readyz").json()) == (
        503,
        well | {"node": False},
    )
    valkey.stop()
    assert browser.get("/readyz").json() == well | {"node": False, "redis": False}
    assert browser.get("/healthz").status_code == 200
    page = browser.get("/")
    assert page.status_code == 200
    assert "does not answer" in page.text
    assert browser.get("/metrics").status_code == 200


def test_the_database_is_away(
    start_dashboard: Callable[..., DashboardServer],
) -> None:
    """A page that says so, and no trace of the program."""
    browser = Browser(start_dashboard(database_url="postgresql://nobody@127.0.0.1:1/none").url)
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert browser.get("/readyz").json()["database"] is False
    assert browser.get("/api/stats").status_code == 503


def test_alive_while_all_servers_hang(start_dashboard: Callable[..., DashboardServer]) -> None:
    """Whoever asks for metrics and readiness has to wait; who asks whether it is alive does not."""
    with socket.create_server(("127.0.0.1", 0)) as hanging, ExitStack() as stack:
        port = hanging.getsockname()[1]
        dashboard = start_dashboard(database_url=f"postgresql://nobody@127.0.0.1:{port}/none")
        for path in ("/readyz", "/metrics", "/readyz", "/metrics"):
            asking = HTTPConnection("127.0.0.1", dashboard.port)
            stack.callback(asking.close)
            asking.request("GET", path)
        stack.enter_context(hanging.accept()[0])
        probe = HTTPConnection("127.0.0.1", dashboard.port, timeout=2)
        stack.callback(probe.close)
        probe.request("GET", "/healthz")
        assert probe.getresponse().status == 200


def test_a_failed_one_is_replayed_and_discarded_once(open_dashboard: Browser) -> None:
    """What somebody else was faster with counts as nothing."""
    queue_documents(2)
    for credential_id in ("c0", "c1"):
        fail(credential_id)
    page = open_dashboard.get("/dead-letters").text
    assert page.count('name="id[]"') == 2
    token = open_dashboard.csrf_token("/dead-letters")
    fields = {"csrf_token": token, "id[]": ["1"], "next": "/dead-letters?error=HashMismatch&notice=paused"}
    first = open_dashboard.post("/actions/replay", fields)
    assert first.headers["location"] == "/dead-letters?error=HashMismatch&notice=replayed.1"
    assert open_dashboard.post("/actions/replay", fields).headers["location"].endswith("replayed.0")
    fields |= {"id[]": ["1", "2"], "next": "//evil.example"}
    second = open_dashboard.post("/actions/discard", fields)
    assert second.headers["location"] == "/?notice=discarded.1"
    for ids in (["x"], ["-1"], ["9" * 30]):
        answer = open_dashboard.post("/actions/discard", {"csrf_token": token, "id[]": ids})
        assert answer.status_code == 400
    nothing = open_dashboard.post("/actions/replay", {"csrf_token": token, "next": "/dead-letters"})
    assert nothing.headers["location"] == "/dead-letters?notice=nothing"

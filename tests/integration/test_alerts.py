"""Alerts reach a real Sentry endpoint: one event a cause, tagged, and nothing secret in it."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sentry_sdk

import pipeline.actors  # noqa: F401 - results are kept by the broker's middleware
from pipeline import alerts, burial, incidents
from pipeline.allow_list import EVENT_KEYS, allow_listed
from pipeline.errors import InsufficientFunds, SettingsError
from pipeline.ledger import dead_letters
from pipeline.ledger import incidents as ledger
from pipeline.logs import SecretMask
from pipeline.models import DeadLetter, Incident
from pipeline.settings import Settings
from tests.ledger import failed

PRIVATE_KEY = "5f3c" * 16
RPC_TOKEN = "tok-0123456789abcdef"
DOCUMENT = "Grace Hopper, born 1906-12-09"
CANARIES = (PRIVATE_KEY, RPC_TOKEN, DOCUMENT)


def settings_for(dsn: str | None) -> Settings:
    """Settings with a canary in each place where a secret lives."""
    return Settings(
        _env_file=None,
        sentry_dsn=dsn,
        sentry_environment="tests",
        blockchain_private_key="0x" + PRIVATE_KEY,
        blockchain_rpc_url=f"https://rpc.example/v3/{RPC_TOKEN}",
    )


@pytest.fixture
def started(kent: Any) -> Iterator[Any]:
    """The fake Sentry, with this process's client talking to it."""
    alerts.start_sentry(settings_for(kent.dsn))
    yield kent
    alerts.start_sentry(settings_for(None))


@pytest.fixture
def start_refusing() -> Iterator[Callable[[int], str]]:
    """Start a Sentry that answers nothing but that HTTP status; its DSN."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Not a line for every request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])

        def start(status: int) -> str:
            server.status = status  # type: ignore[attr-defined]
            thread.start()
            return f"http://public@127.0.0.1:{server.server_address[1]}/1"

        yield start
        if thread.ident is not None:
            server.shutdown()
            thread.join()


def capture(**changes: Any) -> bool:
    """One failed credential, with ``changes``."""
    failure: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "stage": "hash_verify",
        "error_class": "HashMismatch",
        "message": "the document's hash is not the one to be anchored",
        "attempts": 1,
        "permanent": True,
        "credential_id": "diploma-7",
    }
    return alerts.capture_failure(**failure | changes)


def only_event(kent: Any) -> dict[str, Any]:
    """The one event that arrived."""
    alerts.flush(5)
    (event,) = kent.events()
    return dict(event)


def test_one_event_with_tags_and_fingerprint(started: Any) -> None:
    """A failed credential is one event that can be searched by what the issuer knows."""
    event_id = uuid.uuid4().hex
    assert capture(event_id=event_id)
    event = only_event(started)
    assert event["event_id"] == event_id
    assert event["level"] == "error"
    assert event["environment"] == "tests"
    assert event["fingerprint"] == ["hash_verify", "HashMismatch"]
    assert event["tags"] == {
        "stage": "hash_verify",
        "error_class": "HashMismatch",
        "attempts": "1",
        "permanent": "true",
        "credential_id": "diploma-7",
        "count": "1",
    }
    assert event["exception"]["values"] == [
        {"type": "HashMismatch", "value": "the document's hash is not the one to be anchored"}
    ]


def test_a_batch_is_one_event(started: Any) -> None:
    """A failed batch says which and how many, not each member."""
    capture(stage="chain_write", error_class="NodeUnreachable", credential_id=None, batch_id=12, count=400)
    tags = only_event(started)["tags"]
    assert (tags["batch"], tags["count"]) == ("12", "400")
    assert "credential_id" not in tags


def test_a_repeat_has_the_same_event_id(started: Any) -> None:
    """Sentry keeps one event of an id, so a repeated report is no second event."""
    event_id = uuid.uuid4().hex
    capture(event_id=event_id)
    capture(event_id=event_id)
    alerts.flush(5)
    assert {event["event_id"] for event in started.events()} == {event_id}


def test_no_canary_leaves(started: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Key, token and document stay here, wherever the process holds them."""
    local_document = {"name": DOCUMENT}
    sentry_sdk.add_breadcrumb(message=PRIVATE_KEY)
    logging.getLogger("pipeline").error("failed on %s with %s", local_document, RPC_TOKEN)
    try:
        try:
            raise KeyError(DOCUMENT)
        except KeyError as exc:
            raise ConnectionError(f"https://rpc.example/v3/{RPC_TOKEN}") from exc
    except ConnectionError as exc:
        capture(error_class="ConnectionError", message=str(exc), permanent=False)
        capture(error_class="NodeUnreachable", message=f"POST /v3/{RPC_TOKEN}: key {PRIVATE_KEY.upper()}")
        capture(error_class="InvalidDocument", message=f"NaN at $.{DOCUMENT}")
        capture(credential_id=RPC_TOKEN)
    alerts.flush(5)
    events = started.events()
    assert len(events) == 4
    raw = json.dumps(events).lower()
    for canary in CANARIES:
        assert canary.lower() not in raw


def test_only_listed_keys_leave(started: Any) -> None:
    """No local variable, breadcrumb, module list, host name or user is part of an event."""
    capture()
    assert set(only_event(started)) <= set(EVENT_KEYS)


def test_the_gate_drops_what_others_add(kent: Any) -> None:
    """An allow-list: keys, tags and stack frames that nobody listed do not pass."""
    event: Any = {
        "event_id": "0" * 32,
        "tags": {"stage": "db_update", "owner": DOCUMENT},
        "extra": {"document": DOCUMENT},
        "user": {"id": DOCUMENT},
        "contexts": {"credential": {"id": "a", "document": DOCUMENT}, "runtime": {"name": DOCUMENT}},
        "exception": {"values": [{"type": "T", "value": "v", "stacktrace": {"frames": [DOCUMENT]}}]},
    }
    passed = allow_listed(event, {}, SecretMask())
    assert DOCUMENT not in json.dumps(passed)
    assert passed["tags"] == {"stage": "db_update"}


def test_an_issuers_client_stays_and_hears_nothing(started: Any) -> None:
    """What an issuer's own Sentry client is, it remains; our failures are not sent to it."""
    heard: list[Any] = []

    def hear(event: Any, hint: Any) -> None:
        heard.append(event)

    with sentry_sdk.isolation_scope():
        theirs = sentry_sdk.Client("http://public@127.0.0.1:9/7", before_send=hear)
        sentry_sdk.get_isolation_scope().set_client(theirs)
        alerts.start_sentry(settings_for(started.dsn))
        capture()
        assert sentry_sdk.get_client() is theirs
        theirs.close(timeout=0)
    assert only_event(started)["tags"]["credential_id"] == "diploma-7"
    assert heard == []


def test_nothing_without_a_dsn(kent: Any) -> None:
    """No ``SENTRY_DSN``: no client, and the caller learns that nothing was sent."""
    alerts.start_sentry(settings_for(None))
    assert capture() is False
    alerts.flush(0)
    assert kent.events() == []


def test_an_unreachable_sentry_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A dead Sentry costs the pipeline one line: no exception, no line for each alert."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        alerts.start_sentry(settings_for(f"http://public@127.0.0.1:{taken.getsockname()[1]}/1"))
        for _ in range(3):
            capture()
        alerts.flush(10)
    alerts.start_sentry(settings_for(None))
    assert [record.name for record in caplog.records] == ["pipeline.alerts"]


def test_what_has_arrived(started: Any) -> None:
    """A taken event is known to be, once it is."""
    event_id = uuid.uuid4().hex
    assert not alerts.arrived(event_id)
    capture(event_id=event_id)
    assert alerts.arrived(event_id)


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("answer", [None, 429, 500])
def test_an_alert_that_did_not_arrive_is_raised_again(
    client: Any, kent: Any, start_refusing: Callable[[int], str], answer: int | None, over: bool
) -> None:
    """Sentry is away, full or broken for a while: incidents, over or not, and dead letters are told of."""
    dsn = start_refusing(answer) if answer else "http://public@127.0.0.1:9/1"
    alerts.start_sentry(settings_for(dsn))
    dead = failed()
    incidents.report(InsufficientFunds("empty"), subject="1:0xabc", over=over)
    incidents.alert()
    if not over:
        ledger.end("InsufficientFunds", "1:0xabc")
    burial.alert(DeadLetter.get_by_id(dead.letter_id).cause_id)
    assert Incident.get().alerted_at is None
    assert DeadLetter.get().alerted_at is None
    assert dead_letters.causes_not_alerted(created_before=time.time() + 1) == [], "not at once"
    alerts.start_sentry(settings_for(kent.dsn))
    Incident.update(alert_due_at=0.0).execute()
    DeadLetter.update(alert_tried_at=0).execute()
    incidents.alert()
    for cause_id in dead_letters.causes_not_alerted(created_before=time.time() + 1):
        burial.alert(cause_id)
    alerts.start_sentry(settings_for(None))
    assert {event["tags"]["error_class"] for event in kent.events()} == {
        "InsufficientFunds",
        "NodeUnreachable",
    }
    assert None not in (Incident.get().alerted_at, DeadLetter.get().alerted_at)


def test_a_wrong_dsn_is_a_settings_error() -> None:
    """The message names the variable and not its value."""
    with pytest.raises(SettingsError, match=r"SENTRY_DSN") as caught:
        alerts.start_sentry(settings_for("not-a-dsn"))
    assert "not-a-dsn" not in str(caught.value)


def test_a_long_credential_id_is_whole_in_the_context(started: Any) -> None:
    """Sentry drops tags of more than 200 characters; an id may have 255."""
    capture(credential_id="c" * 255)
    event = only_event(started)
    assert len(event["tags"]["credential_id"]) == alerts.MAX_TAG_LENGTH
    assert event["contexts"]["credential"]["id"] == "c" * 255

"""Promise: an outage is one issue in Sentry, what needs a human now is fatal, and neither has a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import pipeline.actors  # noqa: F401 - results are kept by the broker's middleware
from pipeline import alerts, burial, errors, incidents, monitor
from pipeline.allow_list import allow_listed
from pipeline.ledger import batches, dead_letters, joining, verification
from pipeline.logs import SecretMask
from pipeline.models import Batch, DeadLetter
from pipeline.settings import Settings
from tests.ledger import queue

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

#: What must never leave; by where it lives.
CANARIES = {
    "private key": "5f3c" * 16,
    "key in a file": "6e4d" * 16,
    "keystore password": "canary-keystore-pw",
    "RPC token": "canary-token-0123456789",
    "RPC password": "canary-rpc-pw",
    "database password": "canary-database-pw",
    "Redis password": "canary-redis-pw",
}
#: What no mask knows, so that it must not get there at all.
DOCUMENT = '{"name": "Grace Hopper", "born": "1906-12-09"}'
PERSON = "Grace Hopper"


@pytest.fixture
def settings(kent: Any, tmp_path: Path) -> Settings:
    """With a canary in each place where a secret lives."""
    key, password = tmp_path / "key", tmp_path / "password"
    key.write_text("0x" + CANARIES["key in a file"])
    password.write_text(CANARIES["keystore password"] + "\n")
    return Settings(
        _env_file=None,
        sentry_dsn=kent.dsn,
        blockchain_private_key="0x" + CANARIES["private key"],
        blockchain_private_key_file=key,
        blockchain_keystore_password_file=password,
        blockchain_rpc_url=f"https://u:{CANARIES['RPC password']}@rpc.example/v3/{CANARIES['RPC token']}",
        database_url=f"postgresql://u:{CANARIES['database password']}@db.example/x",
        redis_password=CANARIES["Redis password"],
    )


@pytest.fixture
def started(kent: Any, client: Any, settings: Settings) -> Iterator[Any]:
    """The fake Sentry, with this process's client talking to it."""
    alerts.start_sentry(settings)
    yield kent
    alerts.start_sentry(Settings(_env_file=None))  # type: ignore[call-arg]


def arrived(kent: Any) -> list[dict[str, Any]]:
    """All that came, of whatever kind."""
    alerts.flush(5)
    return [item["body"] for item in kent.items()]


# --- fingerprints and levels -------------------------------------------------------------------------


def out_of_attempts(size: int) -> None:
    """Let an outage kill all that is queued, in batches of ``size``."""
    ids = queue(1000)
    verification.begin(ids)
    for batch_id in joining.join(ids, [], lane="normal", max_size=size, linger_seconds=0):
        batches.fail_attempt(
            batch_id,
            errors.NodeUnreachable("no answer"),
            stage="chain_write",
            max_attempts=1,
            min_backoff_ms=1,
        )


def test_an_outage_over_a_thousand_credentials(started: Any) -> None:
    """One event for each batch that failed of it, all of one issue; a repeat of the alert sends no more."""
    out_of_attempts(250)
    causes = {letter.cause_id for letter in DeadLetter.select(DeadLetter.cause_id)}
    for cause_id in [*causes, *causes]:
        burial.alert(cause_id)
    events = arrived(started)
    assert DeadLetter.select().count() == 1000
    assert [event["fingerprint"] for event in events] == [["chain_write", "NodeUnreachable"]] * 4
    assert {event["tags"]["batch"] for event in events} == {str(batch.id) for batch in Batch.select()}
    assert [event["tags"]["count"] for event in events] == ["250"] * 4
    assert dead_letters.causes_not_alerted(created_before=1e11) == []


def test_stages_and_classes_are_issues_of_their_own(started: Any) -> None:
    """What is mended at another place is another issue, whatever the message says."""
    for stage, error_class in (("hash_verify", "HashMismatch"), ("chain_write", "HashMismatch")):
        for message in ("a", "b"):
            capture_failure(stage=stage, error_class=error_class, message=message)
    prints = [tuple(event["fingerprint"]) for event in arrived(started)]
    assert len(prints) == 4
    assert set(prints) == {("hash_verify", "HashMismatch"), ("chain_write", "HashMismatch")}


@pytest.mark.parametrize("kind", ["FinalBlockRemoved", "NonceConflict", "FundsLow"])
def test_what_needs_a_human_now_is_fatal(started: Any, kind: str) -> None:
    """However often it is met, it is one event."""
    for _ in range(3):
        incidents.report(getattr(errors, kind)("look at it"), subject="1:0xab", level="fatal")
        incidents.alert()
    [event] = arrived(started)
    assert (event["level"], event["fingerprint"]) == ("fatal", ["chain", kind])


# --- contents ----------------------------------------------------------------------------------------


def capture_failure(**changes: Any) -> None:
    """One failed credential, with ``changes``."""
    failure: dict[str, Any] = {
        "event_id": uuid4().hex,
        "stage": "hash_verify",
        "error_class": "HashMismatch",
        "message": "another hash",
        "attempts": 1,
        "permanent": True,
        "credential_id": "diploma-7",
    }
    assert alerts.capture_failure(**failure | changes)


def fail(text: str) -> None:
    """A failure whose texts hold it."""
    capture_failure(message=text, credential_id=text, stage=text)


def report(text: str) -> None:
    """An incident whose message holds it."""
    incidents.report(errors.NodeRejected(text), subject=text)
    incidents.alert()


def check_in(text: str) -> None:
    """A run of a job whose names hold it."""
    with monitor.checked_in(text, text):
        pass


@pytest.mark.parametrize("send", [fail, report, check_in])
def test_no_secret_leaves(started: Any, send: Callable[[str], None]) -> None:
    """Even where some code would put it into a text of ours, in whichever case of letters."""
    for canary in CANARIES.values():
        send(f"at {canary.upper()} and {canary}")
    found = arrived(started)
    assert len(found) >= len(CANARIES)
    told = json.dumps(found).lower()
    assert [place for place, canary in CANARIES.items() if canary in told] == []


@pytest.mark.parametrize("error_class", ["InvalidDocument", "KeyError", "UnexpectedError"])
def test_no_document_leaves(started: Any, error_class: str) -> None:
    """A text that may quote one stays here; the dead letter has it."""
    capture_failure(error_class=error_class, message=f"wrong: {DOCUMENT}")
    [event] = arrived(started)
    assert event["exception"]["values"] == [{"type": error_class, "value": "see the dead letter"}]
    assert PERSON not in json.dumps(event)


def enriched(value: Any) -> Any:
    """``value`` with something of a person added to every mapping in it, as a later SDK might do."""
    if isinstance(value, dict):
        added = {"extra": {"document": DOCUMENT}, "user": PERSON, "vars": [PERSON], "breadcrumbs": [PERSON]}
        return {key: enriched(part) for key, part in value.items()} | added
    return [enriched(part) for part in value] if isinstance(value, list) else value


def test_what_others_add_stays_here(started: Any) -> None:
    """At any depth of any kind of event: there is a list of what may leave."""
    fail("no answer")
    report("no answer")
    check_in("purge")
    kinds = arrived(started)
    assert len(kinds) == 4
    for event in kinds:
        more = enriched(event)
        assert PERSON in json.dumps(more)
        assert allow_listed(more, {}, SecretMask()) == allow_listed(event, {}, SecretMask())  # type: ignore[arg-type]
        assert PERSON not in json.dumps(allow_listed(more, {}, SecretMask()))

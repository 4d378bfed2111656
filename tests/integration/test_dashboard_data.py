"""Promise: the dashboard's pages find, explain and add up what the ledger has; no search does harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import status
from pipeline.dashboard.data import audit, batches, credential, letters, pulse, search, why
from pipeline.errors import NodeUnreachable, UnknownCredential
from pipeline.ledger import control, dead_letters, incidents, joining, journal, verification
from pipeline.metrics import shared
from pipeline.models import Batch, Journal, Transaction, Write
from pipeline.redis_client import connect
from pipeline.settings import get_settings
from tests.databases import on_sqlite
from tests.ledger import MINED, anchored, confirmed, failed, queue, queued, verified, written

#: Texts that find nothing in a ledger of ``c0`` to ``c4``, ``a%b`` and ``a_b``.
HOSTILE = [
    "",
    " ",
    "%",
    "_",
    "c%",
    "c_",
    "a\\%",
    "\\",
    "\0",
    "c\0",
    "c0\nc1",
    "c\x1b[31m",
    "\ud800",
    "c\udfff",
    "c" * 10_000,
    "' OR 1=1 --",
    "\U0010ffff",
    "0x" + "f" * 64,
    "0x" + "f" * 63,
]


def kinds(text: str) -> dict[str, list[str]]:
    """The credentials that a search finds, by kind."""
    return {group.kind: [job.credential_id for job in group.jobs] for group in search.search(text)}


def a_batch(size: int = 3) -> Batch:
    """One of ``c0``, ``c1``, … that is through."""
    ids = queue(size)
    verification.begin(ids)
    [batch_id] = joining.join(ids, [], lane="normal", max_size=size, linger_seconds=0)
    return anchored(batch_id)


def test_search_by_every_name(ledger: str) -> None:
    """Credential, job, hash in any form, transaction, root; each says which it was."""
    batch = a_batch()
    write: Any = Write.get(Write.credential_id == "c1")
    assert kinds("c1") == {"credential": ["c1"]}
    assert kinds(f" {write.job_id} ") == {"job": ["c1"]}
    for text in (write.data_hash, "0x" + write.data_hash, "0X" + write.data_hash.upper()):
        assert kinds(text) == {"data hash": ["c1"]}
    members = ["c2", "c1", "c0"]
    assert kinds(str(batch.transaction_hash)) == {"transaction": members}
    assert kinds(str(batch.merkle_root)[2:].upper()) == {"batch root": members}
    [group] = search.search(str(batch.merkle_root), limit=2)
    assert (len(group.jobs), group.more) == (2, True)
    assert group.batch == batches.page().rows[0]


def test_search_by_what_an_id_begins_with(ledger: str) -> None:
    """In the order of the ids, by code points; neither ``%`` nor ``_`` means anything."""
    names = ["a", "a%b", "a_b", "ab", "aB", "a\U0010ffffz", "á", "b", "\ud7ff1", "\ue0001"]
    for name in names:
        queue(1, prefix=name)
    for prefix in ("a", "a%", "a_", "A", "ab", "b", "\ud7ff", "\ue000", "á"):
        expected = sorted(f"{name}0" for name in names if f"{name}0".startswith(prefix))
        assert kinds(prefix).get("credential prefix", []) == expected, prefix
    assert [group.more for group in search.search("a", limit=3)] == [True]


def test_search_for_what_can_be_no_name(ledger: str) -> None:
    """It finds nothing and harms nothing."""
    queue(5)
    queue(1, prefix="a%b")
    queue(1, prefix="a_b")
    assert {text: found for text in HOSTILE if (found := search.search(text))} == {}
    assert Write.select().count() == 7
    with pytest.raises(UnknownCredential):
        credential.detail("c0\0")


def in_block(confirmations: int) -> int:
    """A write in a block that is not deep enough."""
    rows = written()
    Batch.update(block_number=17, confirmations=confirmations).execute()
    return rows.write_id


#: For each reason that `pipeline.status` can give: what brings it about, and what is said of it.
REASONS: dict[str, tuple[Callable[[], Any], str]] = {
    "waiting": (lambda: queued().write_id, "Waits for a worker"),
    status.RATE_LIMIT: (lambda: verified().write_id, "at most 10 chain writes a second"),
    status.LINGER: (lambda: linger(), "to share its transaction"),
    status.PAUSED: (lambda: paused(), "Paused by ann@host since 20"),
    status.IN_NO_BLOCK: (lambda: written().write_id, "waits for a block"),
    status.CONFIRMATIONS: (lambda: in_block(3), "In a block, 3 of 12 confirmations."),
    status.RETRY_AT: (lambda: delayed(), "tried at 2033-05-18 03:33:20 UTC"),
    "failed": (lambda: failed().write_id, "Failed: NodeUnreachable."),
    **{
        reason: (lambda kind=kind: held(kind), why.SENTENCES[reason].sentence)
        for kind, reason in status.INCIDENT_REASONS.items()
    },
}


def linger() -> int:
    """A write whose batch waits for more."""
    rows = verified(max_size=10)
    Batch.update(due_at=time.time() + 100).execute()
    return rows.write_id


def paused() -> int:
    """A write that waits for somebody."""
    control.set_paused(True, actor="ann@host")
    return verified().write_id


def delayed() -> int:
    """A write that waits for its next attempt."""
    rows = queued()
    Write.update(due_at=2e9).execute()
    return rows.write_id


def held(kind: str) -> int:
    """A write that waits for the end of an incident."""
    incidents.begin(kind, "31337", "what is wrong")
    return verified().write_id


@pytest.mark.parametrize("reason", REASONS)
@on_sqlite
def test_every_reason_has_a_sentence(ledger: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Complete over all that a status can say, and the credential's page has it."""
    monkeypatch.setenv("BLOCKCHAIN_CONFIRMATIONS", "12")
    get_settings.cache_clear()
    make, sentence = REASONS[reason]
    write: Any = Write.get_by_id(make())
    found = credential.detail(write.credential_id)
    assert found.why is not None
    assert sentence in found.why.sentence
    assert found.why.action
    said = found.status["reason"] or found.status["status"]
    assert said.startswith(reason)


def test_a_credential(ledger: str) -> None:
    """All its jobs, the newest first; the timeline and batch of the one that is asked for."""
    rows = confirmed()
    write: Any = Write.get_by_id(rows.write_id)
    found = credential.detail(write.credential_id)
    assert found.status == status.status_of_credential(write.credential_id)
    assert (found.why, found.job, found.jobs) == (None, found.jobs[0], (found.job,))
    assert [entry["event"] for entry in found.timeline] == ["queued", "written", "confirmed"]
    assert found.batch == batches.detail(rows.batch_id).batch
    assert credential.detail(write.credential_id, job_id=write.job_id) == found
    other: Any = Write.get_by_id(queued().write_id)
    for job_id in (other.job_id, "none", "\0"):
        with pytest.raises(LookupError):
            credential.detail(write.credential_id, job_id=job_id)


def test_batches(ledger: str) -> None:
    """Cost, times, transactions and members, page by page."""
    batch = a_batch()
    verified()
    page = batches.page(limit=1)
    assert page.next is not None
    assert (page.rows[0].state, page.rows[0].cost_wei) == ("full", None)
    [row] = batches.page(after=page.next, limit=1).rows
    cost_wei = MINED.gas_used * MINED.gas_price_wei
    assert (row.id, row.size, row.cost_wei, row.cost_per_credential_wei) == (
        batch.id,
        3,
        cost_wei,
        cost_wei // 3,
    )
    assert row.seconds_to_confirm is not None
    assert row.seconds_to_confirm >= 0
    found = batches.detail(row.id)
    assert [transaction.hash for transaction in found.transactions] == [row.transaction_hash]
    assert found.transactions[0].state == "mined"
    first = batches.members(row.id, limit=2)
    rest = batches.detail(row.id, after=first.next).members
    assert [job.credential_id for job in (*first.rows, *rest.rows)] == ["c2", "c1", "c0"]
    Transaction.update(lost_at=1.0).execute()
    assert batches.detail(row.id).transactions[0].state == "lost"
    for unknown in (0, -1, 10**6, 2**70):
        with pytest.raises(LookupError):
            batches.detail(unknown)


def test_dead_letters_of_a_kind(ledger: str) -> None:
    """One kind, or all kinds of a stage or of an error, in one order; without those that are resolved."""
    ids = queue(7)
    for number, (stage, error) in enumerate([("s1", "E1"), ("s1", "E2"), ("s2", "E1")] * 2):
        failure = NodeUnreachable("no answer")
        dead_letters.bury([ids[number]], failure, state="queued", stage=stage)
        letters.DeadLetter.update(error=error).where(letters.DeadLetter.write == ids[number]).execute()
    dead_letters.bury([ids[6]], NodeUnreachable("no answer"), state="queued", stage="s1")
    assert dead_letters.discard(letters.page(stage="s1").rows[0].id)
    assert [(c.stage, c.error, c.count) for c in letters.counts()] == [
        ("s1", "E1", 2),
        ("s1", "E2", 2),
        ("s2", "E1", 2),
    ]

    def found(limit: int = 2, **only: str) -> list[str]:
        page = letters.page(limit=limit, **only)  # type: ignore[arg-type]  # stage and error
        names = [letter.credential_id for letter in page.rows]
        while page.next is not None:
            page = letters.page(limit=limit, after=page.next, **only)  # type: ignore[arg-type]
            names += [letter.credential_id for letter in page.rows]
        return names

    assert found() == ["c5", "c4", "c3", "c2", "c1", "c0"]
    assert found(stage="s1") == ["c4", "c3", "c1", "c0"]
    assert found(error="E1") == ["c5", "c3", "c2", "c0"]
    assert found(stage="s1", error="E1") == ["c3", "c0"]
    assert found(stage="none") == []


def test_what_people_did(ledger: str) -> None:
    """Not what the pipeline does by itself; with the credential where there is one."""
    rows = failed()
    journal.note(journal.ATTEMPT_FAILED, write_ids=[rows.write_id])
    control.set_paused(True, actor="ann")
    dead_letters.discard(rows.letter_id, actor="bob")
    control.set_paused(False, actor="ann")
    found = audit.page().rows
    name = Write.get_by_id(rows.write_id).credential_id
    assert [(act.event, act.actor, act.credential_id) for act in found] == [
        ("resumed", "ann", None),
        ("discarded", "bob", name),
        ("paused", "ann", None),
    ]
    assert Journal.select().count() > len(found)


def test_the_pulse(client: Any) -> None:
    """When things last ran, who has paused, what holds, and Redis."""
    before = pulse.pulse()
    assert (before.last_purge, before.scheduler_seen, before.pause, before.held) == (None, None, None, None)
    control.write("last_purge", repr(12.5))
    control.set_paused(True, actor="ann")
    control.set_paused(False, actor="ann")
    control.set_paused(True, actor="bob")
    incidents.begin("InsufficientFunds", "31337:0x01", "no wei left")
    with connect() as redis_client:
        shared.Delivery(redis_client).deliver()
    found = pulse.pulse()
    assert (found.last_purge, found.held, found.redis, found.workers) == (12.5, "paused", True, 1)
    assert found.pause is not None
    assert found.pause.actor == "bob"
    assert time.time() - found.pause.since < 60
    assert [trouble.message for trouble in found.incidents] == ["no wei left"]


@on_sqlite
def test_redis_is_away(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so, and does not wait."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    get_settings.cache_clear()
    assert (pulse.pulse().redis, pulse.pulse().workers) == (False, None)

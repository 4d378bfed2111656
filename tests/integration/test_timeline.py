"""Promise: the way of a write can be told, and who did what to it."""

from __future__ import annotations

import pytest

from pipeline import deadletters, timeline
from pipeline.errors import NodeUnreachable
from pipeline.ledger import batches, control, dead_letters, finality, journal, retention, verification
from pipeline.ledger.finality import Place
from pipeline.models import Batch, BatchState, DeadLetter, Journal, State, Write
from tests.ledger import FAILING, MINED, confirmed, failed, purge_completed, queued, verified, written
from tests.racing import in_threads


def told(write_id: int) -> list[tuple[str, str]]:
    """Events, and who."""
    return [(entry["event"], entry["actor"]) for entry in timeline.of(write_id)]


def test_a_reorg(ledger: str) -> None:
    """With the block that is gone."""
    rows = confirmed()
    finality.unconfirm(Place(rows.batch_id, MINED.block_number, MINED.block_hash))
    entries = timeline.of(rows.write_id)
    assert [entry["event"] for entry in entries] == ["queued", "written", "unconfirmed"]
    assert MINED.block_hash in str(entries[-1]["detail"])
    assert entries == sorted(entries, key=lambda entry: str(entry["at"]))


def test_failed_attempts_of_both_kinds(ledger: str) -> None:
    """Of a write that waits for its verification, and of a batch."""
    alone, member = queued(), verified()
    error = NodeUnreachable("no answer")
    verification.begin([alone.write_id])
    verification.fail_attempt([alone.write_id], error, stage="hash_verify", max_attempts=3, min_backoff_ms=1)
    batches.fail_attempt(member.batch_id, error, stage="chain_write", max_attempts=3, min_backoff_ms=1)
    for rows in (alone, member):
        last = timeline.of(rows.write_id)[-1]
        assert (last["event"], last["detail"]) == ("attempt failed", "NodeUnreachable: no answer")


def test_a_replay_by_ten_at_once(ledger: str) -> None:
    """One of them did it, and the audit trail has that one."""
    rows = failed()

    def replay(number: int) -> list[int]:
        return dead_letters.requeue([rows.write_id], resolution="replayed", actor=f"person {number}")

    moved = in_threads(10, replay)
    assert sum(len(found) for found in moved if isinstance(found, list)) == 1
    [who] = [row.actor for row in Journal.select().where(Journal.event == journal.REPLAYED)]
    assert moved[int(who.split()[1])] == [rows.write_id]
    assert told(rows.write_id) == [("queued", "pipeline"), ("failed", "pipeline"), ("replayed", who)]


def test_a_dead_letter_shows_its_way(ledger: str) -> None:
    """And whoever runs the command is who has discarded it."""
    rows = failed()
    credential_id = Write.get_by_id(rows.write_id).credential_id
    assert [e["event"] for e in deadletters.shown(credential_id)["timeline"]] == ["queued", "failed"]
    assert deadletters.discard(credential_id)
    assert told(rows.write_id)[-1] == ("discarded", timeline.person())


def test_pause_and_resume(ledger: str) -> None:
    """Who did it."""
    control.set_paused(True, actor="somebody")
    control.set_paused(False)
    assert [(row.event, row.actor) for row in Journal.select().order_by(Journal.id)] == [
        ("paused", "somebody"),
        ("resumed", "pipeline"),
    ]


@pytest.mark.parametrize("actor", ["somebody", journal.PIPELINE])
def test_a_purge_takes_the_timeline(ledger: str, actor: str) -> None:
    """But not what people did."""
    rows = failed()
    dead_letters.discard(DeadLetter.get().id, actor=actor)
    journal.note(journal.ATTEMPT_FAILED, write_ids=[rows.write_id])
    assert len(list(retention.purge_failed(finished_before=2**40))) == 1
    kept = [row.actor for row in Journal.select().where(Journal.write_id == rows.write_id)]
    assert kept == [actor] * (actor != journal.PIPELINE)


def test_an_outage_is_one_line_of_a_batch(ledger: str) -> None:
    """One that is signed for is tried again every few seconds; its lines go with its last write."""
    rows = written()
    Batch.update(state=BatchState.FULL, due_at=0).execute()
    Write.update(state=State.VERIFIED).execute()
    for message in ("no answer", "no answer", "refused"):
        assert batches.begin_attempt(rows.batch_id)
        batches.fail_attempt(rows.batch_id, NodeUnreachable(message), **FAILING)
        Batch.update(due_at=0).execute()
    details = [row.detail for row in Journal.select().where(Journal.batch_id == rows.batch_id)]
    assert details == ["NodeUnreachable: no answer", "NodeUnreachable: refused"]
    Write.update(state=State.CONFIRMED, finished_at=1.0).execute()
    other = queued()
    Write.update(batch=rows.batch_id).where(Write.id == other.write_id).execute()
    purge_completed(finished_before=2**40)
    assert Journal.select().count() == 2
    Write.update(state=State.CONFIRMED, finished_at=1.0).where(Write.id == other.write_id).execute()
    purge_completed(finished_before=2**40)
    assert Journal.select().count() == 0

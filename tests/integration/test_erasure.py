"""Promise: erased is erased, whatever is asked for afterwards, and whoever else is at it at the time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import pipeline.actors
from pipeline import completion, deadletters, status, timeline
from pipeline.anchors import receipt_of
from pipeline.database import close_connection, database
from pipeline.erasure import erase
from pipeline.errors import (
    CredentialErased,
    InvalidCredentialId,
    UnknownCredential,
    WritePending,
)
from pipeline.ledger import batches, dead_letters, erasure, finality, journal, nonces, transactions
from pipeline.ledger.confirmation import confirm
from pipeline.ledger.finality import Place
from pipeline.merkle import leaf_hash
from pipeline.models import Batch, Credential, DeadLetter, Journal, State, Write
from tests.databases import on_postgresql
from tests.erasing import end_all, salts_of, send, word
from tests.intake import fail, insert_row, metadata_of
from tests.intake import finish as finish_mocked
from tests.ledger import (
    ACCOUNT,
    MINED,
    REVERTED,
    STATES,
    UNREACHABLE,
    confirmed,
    everything,
    failed,
    purge,
    sign,
)
from tests.racing import in_threads
from tests.waiting import until

Use = Callable[..., None]


@pytest.fixture(autouse=True)
def mocked(use: Use) -> None:
    """No chain."""
    use(blockchain_mock_enabled="true")


def name_of(write_id: int) -> str:
    """Whose write it is."""
    return str(Write.get_by_id(write_id).credential_id)


def erasures() -> list[Journal]:
    """What the journal says of any."""
    return list(Journal.select().where(Journal.event == journal.ERASED).order_by(Journal.id))


# --- what goes, what stays -------------------------------------------------------------------------


def test_document_and_salts_go(client: Any) -> None:
    """Of all its writes; the status answers on, the issuer's metadata stay, and nobody else loses any."""
    for document in ({"name": word()}, {"name": word()}):
        send("c1", document)
        end_all()
    send("c2", {"name": "Grace"})
    end_all()
    before, own = client.get_blockchain_write_status("c1"), metadata_of("c1")
    assert before["result"]["leaf_salt"]
    assert erase("c1") == 2
    before["result"]["leaf_salt"] = None
    assert client.get_blockchain_write_status("c1") == before
    assert metadata_of("c1") == own
    assert own["own"] == "key"
    assert Credential.get_by_id("c1").document is None
    assert Credential.get_by_id("c2").document
    assert [write.credential_id for write in Write.select().where(Write.salt.is_null(False))] == ["c2"]


def test_twice(client: Any) -> None:
    """Harmless: no more salts, and no second entry."""
    send("c1", {"name": word()})
    end_all()
    assert erase("c1", actor="Kurt") == 1
    before = everything()
    assert erase("c1", actor="Kurt") == 0
    assert everything() == before
    assert len(erasures()) == 1


@pytest.mark.parametrize("kind", ["confirmed", "failed", "purged"])
def test_what_has_ended(client: Any, kind: str) -> None:
    """Also long ago."""
    rows = STATES["confirmed" if kind == "purged" else kind]()
    if kind == "purged":
        assert purge(rows)
    name = name_of(rows.write_id)
    before = client.get_blockchain_write_status(name)["status"]
    assert erase(name) == 1
    write = Write.get_by_id(rows.write_id)
    assert (write.salt, client.get_blockchain_write_status(name)["status"]) == (None, before)
    assert write.leaf is not None


def test_what_was_never_queued(client: Any) -> None:
    """The document goes; the journal names the credential."""
    insert_row("c1", document='{"name": "Ada"}')
    assert erase("c1", actor="Kurt") == 0
    assert Credential.get_by_id("c1").document is None
    [entry] = erasures()
    assert (entry.write_id, entry.actor, entry.detail) == (None, "Kurt", "credential 'c1'")


def test_whose_row_is_gone(client: Any) -> None:
    """Another program has deleted it: the salt is ours to remove."""
    rows = confirmed()
    name = name_of(rows.write_id)
    Credential.delete().where(Credential.id == name).execute()
    assert erase(name) == 1


def test_unknown(client: Any) -> None:
    """Nobody by that id, and no id."""
    with pytest.raises(UnknownCredential, match="'nobody'"):
        erase("nobody")
    with pytest.raises(InvalidCredentialId):
        erase("a\0b")
    assert erasures() == []


@pytest.mark.parametrize("state", ["queued", "verified", "written", "settled"])
def test_pending(client: Any, state: str) -> None:
    """Refused, and nothing happens; the error says what to do."""
    name = name_of(STATES[state]().write_id)
    Credential.update(document='{"name": "Ada"}').execute()
    before = everything()
    with pytest.raises(WritePending, match="wait until it is completed or failed"):
        erase(name)
    assert everything() == before


def test_in_an_open_transaction(client: Any) -> None:
    """Refused: what is not committed could come back, and the file can not be written anew."""
    name = name_of(confirmed().write_id)
    with database.atomic(), pytest.raises(RuntimeError, match="outside"):
        erase(name)
    assert salts_of(name)


def test_it_is_audited(client: Any) -> None:
    """Who and when, also after a purge, whoever did it."""
    rows, other = confirmed(), confirmed()
    erase(name_of(rows.write_id), actor="Kurt")
    erase(name_of(other.write_id), actor=journal.PIPELINE)
    purge(rows)
    last = timeline.of(rows.write_id)[-1]
    assert (last["event"], last["actor"]) == ("erased", "Kurt")
    assert last["at"] >= status.status_of_credential(name_of(rows.write_id))["queued_at"]
    assert timeline.of(other.write_id)[-1]["event"] == "erased"


def test_by_whoever_runs_it(client: Any) -> None:
    """Where no name is given."""
    rows = confirmed()
    erase(name_of(rows.write_id))
    assert timeline.of(rows.write_id)[-1]["actor"] == timeline.person()


def test_an_error_that_names_a_key_of_the_document(client: Any) -> None:
    """Not in a row, a dead letter, or the metadata any more."""
    key = f"mother_{word()[-16:]}"
    insert_row("c1", document=f'{{"{key}": {2**60}}}', data_hash="ab" * 32)
    client.write_to_blockchain_queued("c1", "ab" * 32)
    end_all()
    assert client.get_blockchain_write_status("c1")["error"]["code"] == "InvalidDocument"
    assert repr(everything()).count(key) == 4  # the document, and the three errors
    erase("c1")
    assert key not in repr(everything())
    assert metadata_of("c1")["blockchain_error"] == "InvalidDocument: document: erased"


# --- what is asked for afterwards ------------------------------------------------------------------


def test_no_receipt_can_be_made(client: Any) -> None:
    """The error says that the holder's own still verifies; one of a newer write can be made."""
    send("c1", {"name": word()})
    end_all()
    erase("c1")
    with pytest.raises(CredentialErased, match="still verifies"):
        receipt_of("c1")
    send("c1", {"name": word()})
    end_all()
    assert receipt_of("c1")["leaf_values"][3] == "0x" + salts_of("c1")[0].hex()


def test_a_completed_one_sent_again(client: Any) -> None:
    """The same job, no new salt, and its result says so."""
    document = {"name": word()}
    job_id = send("c1", document)
    end_all()
    erase("c1")
    before = Write.get()
    assert client.write_to_blockchain_queued("c1", before.data_hash) == job_id
    [after] = Write.select()
    assert (after.state, after.salt, after.leaf) == (State.CONFIRMED, None, before.leaf)
    result = pipeline.actors.hash_verify.message("c1", before.data_hash).copy(message_id=job_id).get_result()
    assert result["leaf_salt"] is None


def test_a_failed_one_is_not_replayed(client: Any) -> None:
    """Neither by hand, nor by itself, nor by one that had chosen it before; it is failed as it was."""
    rows = failed()
    name = name_of(rows.write_id)
    before = client.get_blockchain_write_status(name)
    assert dead_letters.replayable_after_outage(10) == [rows.write_id]
    erase(name)
    assert dead_letters.open_letters() == []
    assert [letter.resolution for letter in DeadLetter.select()] == ["erased"]
    assert dead_letters.replayable_after_outage(10) == []
    assert dead_letters.requeue([rows.write_id], resolution=dead_letters.AUTO_REPLAYED) == []
    assert client.get_blockchain_write_status(name) == before


def test_a_failed_one_sent_again(client: Any) -> None:
    """A new job with a new salt, which ends well; the old one stays what it was."""
    job_id = send("c1", {"name": word()})
    fail("c1")
    erase("c1")
    old = Write.get()
    new_id = client.write_to_blockchain_queued("c1", old.data_hash)
    assert new_id != job_id
    end_all()
    found = client.get_blockchain_write_status("c1")
    assert (found["job_id"], found["status"]) == (new_id, "completed")
    assert not found["result"]["document_checked"]
    [salt] = salts_of("c1")
    leaf = leaf_hash("c1", bytes.fromhex(old.data_hash), "", salt)
    assert found["result"]["leaf"] == "0x" + leaf.hex() != "0x" + bytes(old.leaf).hex()
    first = Write.get_by_id(old.id)
    assert (first.state, first.salt, bytes(first.leaf)) == (State.FAILED, None, bytes(old.leaf))


def test_a_reorg_takes_its_block_away(client: Any) -> None:
    """It is pending, the same root goes out at another nonce, and it is confirmed; no salt comes up."""
    rows, other = confirmed(), confirmed()
    name = name_of(rows.write_id)
    erase(name)
    root = Batch.get_by_id(rows.batch_id).merkle_root
    assert finality.unconfirm(Place(rows.batch_id, MINED.block_number, MINED.block_hash)) == [name]
    assert client.get_blockchain_write_status(name)["status"] == "active"
    with pytest.raises(WritePending):
        erase(name)
    nonces.write_again(rows.batch_id, reason="NonceConflict")
    stored = batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert stored is not None
    transactions.record_mined(stored.id, MINED)
    assert transactions.settle(rows.batch_id)
    assert confirm(rows.batch_id)
    result = client.get_blockchain_write_status(name)["result"]
    assert (result["merkle_root"], result["leaf_salt"]) == (root, None)
    assert Write.get_by_id(rows.write_id).salt is None
    assert salts_of(name_of(other.write_id))


def test_it_fails_after_a_reorg(client: Any) -> None:
    """Its dead letter can not be replayed, and says so; others can. To erase it once more resolves it."""
    rows, other = confirmed(), failed()
    name = name_of(rows.write_id)
    erase(name)
    finality.unconfirm(Place(rows.batch_id, MINED.block_number, MINED.block_hash))
    assert transactions.revert(rows.transaction_id, REVERTED)
    with pytest.raises(CredentialErased, match="another job"):
        deadletters.replay([name, name_of(other.write_id)])
    assert deadletters.replay_all() == 1
    assert Write.get_by_id(rows.write_id).state == State.FAILED
    assert erase(name) == 0
    assert dead_letters.open_letters() == []


def test_it_takes_no_place_from_those_that_can_be_replayed(client: Any) -> None:
    """Where what it failed of after a reorg was no fault of its own."""
    rows = confirmed()
    erase(name_of(rows.write_id))
    finality.unconfirm(Place(rows.batch_id, MINED.block_number, MINED.block_hash))
    assert transactions.revert(rows.transaction_id, UNREACHABLE)
    assert [letter.replayable for letter in dead_letters.open_letters()] == [True]
    other = failed()
    assert dead_letters.replayable_after_outage(1) == [other.write_id]
    assert dead_letters.replayable_after_outage(10) == [other.write_id]


def test_a_result_that_was_read_before(client: Any) -> None:
    """A worker that stores it afterwards takes it away again; one that has no salt stays."""
    job_id = send("c1", {"name": word()})
    finish_mocked("c1")
    write = Write.get()
    before = status.results_of([write.id])
    assert before[write.id]["leaf_salt"]
    erase("c1")
    message = pipeline.actors.hash_verify.message("c1", write.data_hash).copy(message_id=job_id)
    for results, kept in ((before, False), (status.results_of([write.id]), True)):
        completion.keep_completed({write.id: job_id}, results)
        backend = completion.job_results()
        assert backend is not None
        assert bool(backend.redis.client.exists(backend.build_message_key(message))) is kept


# --- at once -----------------------------------------------------------------------------------------


def test_ten_at_once(client: Any) -> None:
    """One of them did it, and the audit trail has that one."""
    rows = confirmed()
    found = in_threads(10, lambda number: erase(name_of(rows.write_id), actor=f"person {number}"))
    assert sorted(map(str, found)) == ["0"] * 9 + ["1"]
    [entry] = erasures()
    assert found[int(entry.actor.split()[1])] == 1


@pytest.mark.parametrize("way", ["send", "replay"])
def test_while_it_is_sent(client: Any, way: str) -> None:
    """Whoever comes first: a write that is pending has its salt, and what is erased is not on its way."""

    def race(number: int) -> Any:
        if not number:
            return erase(name)
        if way == "replay":
            return dead_letters.requeue([rows.write_id], resolution="replayed")
        return client.write_to_blockchain_queued(name, data_hash)

    for _ in range(8):
        rows = failed()
        name, data_hash = name_of(rows.write_id), Write.get_by_id(rows.write_id).data_hash
        erased, sent = in_threads(2, race)
        old = Write.get_by_id(rows.write_id)
        if isinstance(erased, WritePending):
            assert (old.state, old.salt is None) == (State.QUEUED, False)
        else:
            assert erased == 1
            assert (old.state, old.salt) == (State.FAILED, None)
        if way == "send":
            assert Write.get(Write.job_id == sent).state == State.QUEUED
    pending = Write.select().where(Write.state.in_(State.PENDING))
    assert [write.id for write in pending if write.salt is None] == []


def in_another_thread(pool: ThreadPoolExecutor, work: Callable[[], Any], url: str) -> Future[Any]:
    """Begin ``work``, and return once it waits for a lock."""

    def run() -> Any:
        try:
            return work()
        finally:
            close_connection()

    begun = pool.submit(run)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as admin:
        until(lambda: admin.execute(waiting).fetchone() is not None, seconds=10, what="it waits")
    return begun


@on_postgresql
def test_sent_before_the_commit(client: Any, database_url: str) -> None:
    """Intake waits for it, and does not queue a write again whose salt is about to go: it is a new job."""
    rows = failed()
    name, data_hash = name_of(rows.write_id), Write.get_by_id(rows.write_id).data_hash
    with ThreadPoolExecutor(1) as pool:
        with database.atomic():
            erasure.erase(name, actor="Kurt")
            sending = in_another_thread(
                pool, lambda: client.write_to_blockchain_queued(name, data_hash), database_url
            )
        assert Write.get(Write.job_id == sending.result()).state == State.QUEUED
    assert Write.get_by_id(rows.write_id).state == State.FAILED


@on_postgresql
def test_replayed_where_no_row_can_be_locked(client: Any, database_url: str) -> None:
    """Another program has deleted the credential's row: the write's own decides."""
    rows = failed()
    name = name_of(rows.write_id)
    Credential.delete().where(Credential.id == name).execute()

    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url) as other:
        other.execute("UPDATE writes SET state = 'queued' WHERE id = %s", [rows.write_id])
        trying = in_another_thread(pool, lambda: erase(name), database_url)
        other.commit()
        with pytest.raises(WritePending):
            trying.result()
    assert salts_of(name)

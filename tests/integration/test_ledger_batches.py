"""Promise: a batch is of one lane, never above its size, written when it is due, and stored whole."""

from __future__ import annotations

from typing import Any

import pytest
from peewee import IntegrityError

from pipeline.database import database
from pipeline.ledger import batches, control, joining, verification
from pipeline.models import Batch, BatchState, Signer, State, Write
from tests.ledger import ACCOUNT, everything, queue, queued, sign, verified, written


def test_the_intent_is_whole(ledger: str) -> None:
    """One SQL transaction stores nonce, bytes, hash and root; a signer that fails leaves nothing."""

    def refuse(root: bytes, nonce: int) -> Any:
        raise ZeroDivisionError

    rows = verified()
    before = everything()
    with pytest.raises(ZeroDivisionError):
        batches.submit(rows.batch_id, ACCOUNT, nonce_floor=5, sign=refuse)
    assert everything() == before
    stored = batches.submit(rows.batch_id, ACCOUNT, nonce_floor=5, sign=sign)
    assert stored is not None
    batch = Batch.get_by_id(rows.batch_id)
    assert (stored.nonce, Signer.get().next_nonce) == (5, 6)
    assert (batch.state, batch.transaction_hash) == (BatchState.SUBMITTED, stored.hash)
    assert batch.merkle_root == "0x" + bytes(Write.get_by_id(rows.write_id).leaf).hex()


def test_nonces_are_never_given_twice(ledger: str) -> None:
    """They go on from the higher of what was given out and what the chain has."""
    nonces = [
        batches.submit(verified().batch_id, ACCOUNT, nonce_floor=floor, sign=sign) for floor in (0, 0, 7, 3)
    ]
    assert [stored.nonce for stored in nonces if stored] == [0, 1, 7, 8]


def test_full_batches_are_closed_to_joiners(ledger: str) -> None:
    """Sizes never pass the limit; the first member of each batch is told, for its message."""
    ids = queue(7)
    made = joining.join(ids[:4], ids[4:], lane="normal", max_size=3, linger_seconds=0)
    found = list(Batch.select().order_by(Batch.id))
    assert sorted((batch.size, batch.state) for batch in found) == [(1, "open"), (3, "full"), (3, "full")]
    assert sorted(made) == [batch.id for batch in found]
    checked = [write.document_checked for write in Write.select().order_by(Write.id)]
    assert checked == [True] * 4 + [False] * 3


def test_an_open_batch_that_is_larger_than_the_limit_now(ledger: str) -> None:
    """It was made under another setting: it gets no more, and the limit holds for what comes after it."""
    ids = queue(30)
    joining.join(ids[:12], [], lane="normal", max_size=20, linger_seconds=0)
    joining.join(ids[12:21], [], lane="normal", max_size=10, linger_seconds=0)
    found = [(batch.size, batch.state) for batch in Batch.select().order_by(Batch.id)]
    assert found == [(12, "full"), (9, "open")]


def test_full_batches_are_made_at_once(ledger: str) -> None:
    """What fills a batch of its own waits for nobody's open one; the rest joins that."""
    ids = queue(7)
    verification.begin(ids)
    Write.update(state=State.FAILED).where(Write.id == ids[1]).execute()
    made = joining.join(ids, [], lane="normal", max_size=3, linger_seconds=60)
    sizes = {batch.id: (batch.state, batch.size) for batch in Batch.select()}
    assert sorted(sizes[batch_id] for batch_id in made) == [("full", 2), ("full", 3), ("open", 1)]
    for batch_id, (_, size) in sizes.items():
        assert Write.select().where(Write.batch == batch_id, Write.state == State.VERIFIED).count() == size
    assert joining.join(ids, [], lane="normal", max_size=1, linger_seconds=0) == []


def test_single_writes_are_joined_in_few_statements(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many for 400 as for 4: with BATCH_MAX_SIZE=1 a backlog must not keep threads busy for minutes."""
    statements = 0
    queue(1)
    execute = database.obj.execute_sql

    def counted(sql: str, *rest: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(sql, *rest)

    counts = []
    for count, prefix in ((4, "few"), (400, "many")):
        ids = queue(count, prefix=prefix)
        verification.begin(ids)
        statements = 0
        with monkeypatch.context() as patched:
            patched.setattr(database.obj, "execute_sql", counted)
            assert len(joining.join(ids, [], lane="normal", max_size=1, linger_seconds=0)) == count
        counts.append(statements)
    assert counts[1] <= counts[0] + 1


def test_lanes_have_batches_of_their_own(ledger: str) -> None:
    """Urgent work goes first, whatever has waited longer."""
    first, second = queue(2)
    joining.join([first], [], lane="normal", max_size=5, linger_seconds=0)
    joining.join([second], [], lane="urgent", max_size=5, linger_seconds=0)
    ready = batches.next_ready()
    assert ready is not None
    assert ready.lane == "urgent"


def test_the_database_refuses_a_second_open_batch(ledger: str) -> None:
    """Not only the code does."""
    Batch.create(lane="normal")
    Batch.create(lane="urgent")
    with pytest.raises(IntegrityError):
        Batch.create(lane="normal")


def test_the_database_refuses_a_second_pending_write(ledger: str) -> None:
    """One credential has one write on its way."""
    write = Write.get_by_id(queued().write_id)
    row = {"credential_id": write.credential_id, "data_hash": write.data_hash}
    Write.create(job_id="done", state=State.CONFIRMED, **row)
    with pytest.raises(IntegrityError):
        Write.create(job_id="second", **row)


def test_not_ready(ledger: str) -> None:
    """Lingering, paused or with too much in flight: there is nothing to write."""
    [lingering] = queue(1)
    joining.join([lingering], [], lane="urgent", max_size=5, linger_seconds=60)
    assert batches.next_ready() is None
    written()
    rows = verified()
    assert batches.next_ready(max_in_flight=1) is None
    ready = batches.next_ready(max_in_flight=2)
    assert ready is not None
    assert ready.id == rows.batch_id
    control.set_paused(True)
    assert batches.next_ready() is None
    control.set_paused(False)
    assert batches.next_ready() is not None


def test_an_empty_batch_is_never_ready(ledger: str) -> None:
    """There would be no root."""
    Batch.create(lane="normal", due_at=0)
    assert batches.next_ready() is None

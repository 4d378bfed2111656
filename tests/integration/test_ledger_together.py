"""Promise: what the ledger does with many batches in one statement it does with each as if alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from peewee import IntegrityError

from pipeline.ledger import batches, confirmation, control, nonces, transactions, under_way
from pipeline.models import Batch, BatchState, Credential, Outbox, Signer, State, Transaction, Write
from tests.ledger import ACCOUNT, MINED, Rows, everything, sign, verified, written
from tests.racing import in_threads


def submitted(ids: Sequence[int], **more: int) -> list[Transaction]:
    """`submit_many` with the usual account and signer."""
    return batches.submit_many(ids, ACCOUNT, nonce_floor=0, sign=sign, **more)


def test_intents_are_stored_in_the_order_asked_for(ledger: str) -> None:
    """Nonces, bytes and hashes belong to the batches that they were made for."""
    ids = [verified().batch_id for _ in range(5)]
    wanted = [ids[3], ids[0], ids[4]]
    stored = submitted([*wanted, 10**9])
    assert [(row.batch_id, row.nonce) for row in stored] == list(zip(wanted, range(3), strict=True))
    assert stored == list(Transaction.select().order_by(Transaction.nonce))
    for row in Transaction.select():
        batch = Batch.get_by_id(row.batch_id)
        root = bytes.fromhex(batch.merkle_root[2:])
        assert (row.hash, row.raw_transaction) == (
            sign(root, row.nonce).hash,
            "0x" + sign(root, row.nonce).raw.hex(),
        )
        assert (batch.state, batch.transaction_hash) == (BatchState.SUBMITTED, row.hash)
        assert Write.get(Write.batch == batch.id).state == State.VERIFIED
    assert Signer.get().next_nonce == 3
    left = Batch.select().where(Batch.id.in_([ids[1], ids[2]]))
    assert {batch.merkle_root for batch in left} == {None}


def test_a_group_is_whole(ledger: str) -> None:
    """Nothing of it is stored when one of it can not be."""
    ids = [verified().batch_id for _ in range(3)]
    leaf = Write.get(Write.batch == ids[0]).leaf
    Write.update(leaf=leaf).where(Write.batch == ids[2]).execute()
    before = everything()
    with pytest.raises(IntegrityError):
        submitted(ids)
    assert everything() == before


def test_nothing_is_signed_while_paused(ledger: str) -> None:
    """Whoever has chosen the batches before."""
    ids = [verified().batch_id for _ in range(2)]
    control.set_paused(True)
    assert submitted(ids) == []
    assert batches.submit_mock_many(ids) == []
    control.set_paused(False)
    assert len(submitted(ids)) == 2


def test_groups_at_once(ledger: str) -> None:
    """Ten threads with overlapping groups, twelve may be in flight: twelve, each batch and nonce once."""
    ids = [verified().batch_id for _ in range(20)]
    stored = in_threads(10, lambda n: submitted(ids[n : n + 10], max_in_flight=12))
    rows = [row for group in stored for row in group]
    assert len(rows) == len({row.batch_id for row in rows}) == 12
    assert sorted(row.nonce for row in rows) == list(range(12))
    assert under_way.in_flight(ACCOUNT.chain_id, ACCOUNT.signer).count == 12


def in_blocks(rows: Sequence[Rows]) -> None:
    """Each in a block of its own."""
    transactions.record_mined_many(
        {
            one.transaction_id: replace(MINED, block_number=number, block_hash=f"0x{number:02x}")
            for number, one in enumerate(rows, 1)
        }
    )


def test_receipts_of_many(ledger: str) -> None:
    """Each batch has its own block; what shares a nonce is given up; a second look changes nothing."""
    rows = [written() for _ in range(3)]
    [slot, *_] = under_way.unsettled(ACCOUNT.chain_id)
    sibling = nonces.replace(slot, lambda: sign(b"\1" * 32, slot.nonce))
    assert sibling is not None
    in_blocks(rows)
    for number, one in enumerate(rows, 1):
        batch = Batch.get_by_id(one.batch_id)
        transaction = Transaction.get_by_id(one.transaction_id)
        assert batch.block_number == transaction.block_number == number
        assert batch.block_hash == transaction.block_hash == f"0x{number:02x}"
        assert batch.transaction_hash == transaction.hash
    lost = [row.id for row in Transaction.select().where(Transaction.lost_at.is_null(False))]
    assert lost == [sibling.id]
    before = everything()
    in_blocks(rows)
    assert everything() == before


def test_settled_together_and_once(ledger: str) -> None:
    """With lane and size, for the message; of those that another sweep was faster with nothing."""
    rows = [written() for _ in range(4)]
    in_blocks(rows)
    ids = [one.batch_id for one in rows]
    assert transactions.settle(ids[1])
    found = transactions.settle_many(ids)
    assert sorted(one.batch_id for one in found) == sorted({*ids} - {ids[1]})
    assert {(one.lane, one.size) for one in found} == {("normal", 1)}
    outcomes = in_threads(4, lambda _: transactions.settle_many(ids))
    assert outcomes == [[]] * 4


OWN = ['{"own": 1}', "null", "[]", '{"blockchain_error": "x", "n": 1.5}', "{}"]


def test_confirmed_together_each_in_its_place(ledger: str) -> None:
    """Metadata, events and states are those of one by one; whatever else a credential's row holds."""
    rows = [written() for _ in OWN]
    in_blocks(rows)
    for one, text in zip(rows, OWN, strict=True):
        name = Write.get_by_id(one.write_id).credential_id
        Credential.update(metadata=text).where(Credential.id == name).execute()
    ids = [one.batch_id for one in rows]
    transactions.settle_many(ids)
    confirmed = confirmation.confirm_many([*ids, 10**9])
    assert {write.write_id for write in confirmed} == {one.write_id for one in rows}
    for number, (one, text) in enumerate(zip(rows, OWN, strict=True), 1):
        write = Write.get_by_id(one.write_id)
        found = json.loads(Credential.get_by_id(write.credential_id).metadata)
        assert write.state == State.CONFIRMED
        assert found["blockchain_block_number"] == number
        assert found["blockchain_status"] == "confirmed"
        assert "blockchain_error" not in found
        assert found["blockchain_transaction_hash"] == Transaction.get_by_id(one.transaction_id).hash
        kept = json.loads(text) or {}
        assert {key: found[key] for key in ("own", "n") if key in kept} == {
            key: kept[key] for key in kept if key != "blockchain_error"
        }
    details = [json.loads(row.detail)["block_number"] for row in Outbox.select().order_by(Outbox.id)]
    assert details == [1, 2, 3, 4, 5]
    assert confirmation.confirm_many(ids) == []


def test_answers_of_many(ledger: str) -> None:
    """Each transaction has its own; what is mined meanwhile keeps its state."""
    rows = [written() for _ in range(3)]
    transactions.record_mined(rows[2].transaction_id, MINED)
    texts = [("accepted", True), ("unknown: no answer", False), ("unknown: late", False)]
    transactions.record_answers(
        [
            transactions.Answer(one.transaction_id, text, taken)
            for one, (text, taken) in zip(rows, texts, strict=True)
        ]
    )
    found = [Transaction.get_by_id(one.transaction_id) for one in rows]
    assert [row.state for row in found] == ["sent", "signed", "mined"]
    assert [row.answer for row in found] == ["accepted", "unknown: no answer", None]

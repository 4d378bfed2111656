"""Promise: every transition is guarded. Done twice, or to a row that is elsewhere, it changes nothing."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.ledger import batches, confirmation, dead_letters, joining, recovery, transactions, verification
from pipeline.models import Batch, Credential, Signer, State, Transaction, Write
from tests.ledger import (
    ACCOUNT,
    FAILING,
    MINED,
    REVERTED,
    STATES,
    UNREACHABLE,
    Rows,
    everything,
    purge,
    queue,
    settled,
    sign,
    verified,
    written,
)


def join(rows: Rows) -> list[int]:
    """Put the write into a batch of one."""
    return joining.join([rows.write_id], [], lane="normal", max_size=1, linger_seconds=0)


def settle(rows: Rows) -> object:
    """Its transaction, if it has one, is seen in a block that is deep enough."""
    found = {rows.transaction_id: MINED} if rows.transaction_id else {}
    return transactions.record_mined_and_settle(found, [rows.batch_id] if rows.batch_id else [])


#: Each transition, and the states from which it goes.
TRANSITIONS: dict[str, tuple[Callable[[Rows], object], set[str]]] = {
    "begin": (lambda rows: verification.begin([rows.write_id]), {"queued"}),
    "verification.fail_attempt": (
        lambda rows: verification.fail_attempt([rows.write_id], UNREACHABLE, **FAILING),
        {"queued"},
    ),
    "join": (join, {"queued"}),
    "batches.fail_attempt": (
        lambda rows: batches.fail_attempt(rows.batch_id, UNREACHABLE, **FAILING),
        {"verified"},
    ),
    "submit": (
        lambda rows: batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign),
        {"verified"},
    ),
    "submit_mock": (lambda rows: batches.submit_mock(rows.batch_id), {"verified"}),
    "settle": (settle, {"written"}),
    "confirm": (lambda rows: confirmation.confirm(rows.batch_id), {"settled"}),
    "requeue": (lambda rows: dead_letters.requeue([rows.write_id], resolution="replayed"), {"failed"}),
    "discard": (lambda rows: dead_letters.discard(rows.letter_id), {"failed"}),
    "purge": (purge, {"confirmed", "failed"}),
}
#: These need a transaction.
CHAIN: dict[str, tuple[Callable[[Rows], object], set[str]]] = {
    "record_mined": (lambda rows: transactions.record_mined(rows.transaction_id, MINED), {"written"}),
    "revert": (lambda rows: transactions.revert(rows.transaction_id, REVERTED), {"written"}),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_only_from_its_state(ledger: str, name: str) -> None:
    """From its own states a transition changes rows; from any other not one value."""
    transition, allowed = TRANSITIONS[name]
    Signer.create(chain_id=ACCOUNT.chain_id, address=ACCOUNT.signer, next_nonce=0)
    changed = set()
    for state, bring in STATES.items():
        rows = bring()
        before = everything()
        transition(rows)
        changed |= {state} if everything() != before else set()
    assert changed == allowed


@pytest.mark.parametrize("name", TRANSITIONS)
def test_twice_is_as_good_as_once(ledger: str, name: str) -> None:
    """The second call finds nothing to do, and says so (but `begin`, which a redelivery needs)."""
    transition, allowed = TRANSITIONS[name]
    rows = STATES[sorted(allowed)[0]]()
    transition(rows)
    before = everything()
    outcome: Any = transition(rows)
    assert everything() == before
    if dataclasses.is_dataclass(outcome):
        assert not any(dataclasses.astuple(outcome))  # type: ignore[arg-type]
    elif name != "begin":
        assert not outcome


@pytest.mark.parametrize("name", CHAIN)
def test_the_chain_speaks_of_what_it_has_been_asked(ledger: str, name: str) -> None:
    """A late answer to a sweep changes nothing of a batch that has moved on."""
    transition, allowed = CHAIN[name]
    changed = set()
    for state in ("written", "settled", "confirmed"):
        rows = STATES[state]()
        before = everything()
        transition(rows)
        changed |= {state} if everything() != before else set()
    assert changed == allowed


def test_reverted_once(ledger: str) -> None:
    """Dead letters once; neither a second revert, nor a block, nor settling brings it back."""
    rows = written()
    assert transactions.revert(rows.transaction_id, REVERTED)
    before = everything()
    assert transactions.revert(rows.transaction_id, REVERTED) is None
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    transactions.record_answer(rows.transaction_id, "known", taken=True)
    assert not transactions.settle(rows.batch_id)
    assert everything() == before
    assert Write.get_by_id(rows.write_id).state == State.FAILED


def test_a_reverted_write_can_be_written_again(ledger: str) -> None:
    """A replay gets a batch, a nonce and a transaction of its own; the old ones are kept."""
    rows = written()
    transactions.revert(rows.transaction_id, REVERTED)
    assert dead_letters.requeue([rows.write_id], resolution="replayed") == [rows.write_id]
    verification.begin([rows.write_id])
    [batch_id] = join(rows)
    assert batch_id != rows.batch_id
    assert batches.submit(batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert [row.nonce for row in Transaction.select().order_by(Transaction.id)] == [0, 1]


def test_mined_and_unmined(ledger: str) -> None:
    """A reorg takes the block back; twice is as good as once."""
    rows = written()
    transactions.record_mined(rows.transaction_id, MINED)
    transactions.record_unmined(rows.transaction_id, "0x77")
    assert Batch.get_by_id(rows.batch_id).block_number == MINED.block_number
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    before = everything()
    transactions.record_unmined(rows.transaction_id, MINED.block_hash)
    assert everything() == before
    batch = Batch.get_by_id(rows.batch_id)
    assert (batch.block_number, batch.block_hash, batch.confirmations) == (None, None, 0)


def test_the_way_of_a_write(ledger: str) -> None:
    """Its state after each stage, and the credential's word of it."""
    rows = settled()
    assert Write.get_by_id(rows.write_id).state == State.VERIFIED
    [done] = confirmation.confirm(rows.batch_id)
    write = Write.get_by_id(rows.write_id)
    assert (write.state, write.attempts, done.job_id) == (State.CONFIRMED, 1, write.job_id)
    own = json.loads(Credential.get_by_id(write.credential_id).metadata)
    transaction = Transaction.get_by_id(rows.transaction_id)
    assert own["blockchain_status"] == "confirmed"
    assert own["blockchain_transaction_hash"] == transaction.hash
    assert own["blockchain_block_number"] == MINED.block_number


def test_lost_writes_are_claimed_once(ledger: str) -> None:
    """Those that are queued, due, of the lane, and whose message is older; then they are new again."""
    normal, urgent = queue(1), queue(1, prefix="u", priority="urgent")
    delayed = queue(1, prefix="d")
    verified()
    Write.update(sent_at=1.0).execute()
    Write.update(due_at=time.time() + 60).where(Write.id.in_(delayed)).execute()
    assert recovery.claim_writes("normal", sent_before=0.5) == []
    assert recovery.claim_writes("normal", sent_before=2.0) == normal
    assert recovery.claim_writes("normal", sent_before=2.0) == []
    assert recovery.claim_writes("urgent", sent_before=2.0) == urgent


def test_lost_batches_are_claimed_once(ledger: str) -> None:
    """With their lane; empty ones and those that are not due are left."""
    rows = verified()
    Batch.create(lane="urgent", due_at=0)
    Batch.update(sent_at=1.0).execute()
    assert recovery.claim_batches(recovery.WAITING, sent_before=2.0) == [(rows.batch_id, "normal")]
    assert recovery.claim_batches(recovery.WAITING, sent_before=2.0) == []

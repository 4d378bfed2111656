"""Writes brought to any state by the ledger itself, and all that is stored, to be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Any

from pipeline.chain.transaction import PreparedTransaction
from pipeline.database import database
from pipeline.errors import NodeUnreachable, TransactionReverted
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, dead_letters, joining, queueing, retention, transactions, verification
from pipeline.ledger.batches import Account
from pipeline.ledger.confirmation import confirm
from pipeline.ledger.transactions import Mined
from pipeline.models import Batch, Credential, State, Table, Transaction, Write

ACCOUNT = Account(31337, "0x" + "01" * 20, "0x" + "02" * 20)
MINED = Mined(
    block_number=7, block_hash="0x07", block_time=1.5, gas_used=50_000, gas_price_wei=10**9, confirmations=1
)

#: Of an attempt that fails: its stage, and how often and how soon it is made again.
FAILING: dict[str, Any] = {"stage": "a stage", "max_attempts": 3, "min_backoff_ms": 5000}
REVERTED = TransactionReverted("status 0")
UNREACHABLE = NodeUnreachable("no answer")


@dataclass(frozen=True)
class Rows:
    """One write and what belongs to it."""

    write_id: int
    batch_id: int = 0
    transaction_id: int = 0
    letter_id: int = 0


def queue(count: int, *, prefix: str = "c", priority: Any = "normal") -> list[int]:
    """Queue a write for each of ``count`` credentials without a document; returns the writes' ids."""
    names = [f"{prefix}{number}" for number in range(count)]
    for start in range(0, count, 500):
        Credential.insert_many([{"id": name} for name in names[start : start + 500]]).execute()
    requests = [WriteRequest.of(name, sha256(name.encode()).hexdigest(), priority=priority) for name in names]
    return [queued.write_id for queued in queueing.queue(requests)]


def sign(root: bytes, nonce: int) -> PreparedTransaction:
    """What a signer makes of them, without a key."""
    raw = root + nonce.to_bytes(8, "big")
    return PreparedTransaction(raw, "0x" + sha256(raw).hexdigest(), nonce, 60_000, 10**9, 1)


def queued() -> Rows:
    """A write that nobody has touched."""
    return Rows(queue(1, prefix=f"c{Write.select().count()}-")[0])


def verified(*, max_size: int = 1) -> Rows:
    """One in a batch that waits for its turn."""
    rows = queued()
    verification.begin([rows.write_id])
    joining.join([rows.write_id], [], lane="normal", max_size=max_size, linger_seconds=0)
    return Rows(rows.write_id, Write.get_by_id(rows.write_id).batch_id)


def written() -> Rows:
    """One whose transaction is stored."""
    rows = verified()
    stored = batches.submit(rows.batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert stored is not None
    return Rows(rows.write_id, rows.batch_id, stored.id)


def mined() -> Rows:
    """One whose transaction is in a block."""
    rows = written()
    transactions.record_mined(rows.transaction_id, MINED)
    return rows


def settled() -> Rows:
    """One whose transaction is deep enough in the chain."""
    rows = mined()
    assert transactions.settle(rows.batch_id)
    return rows


def confirmed() -> Rows:
    """One that is through."""
    rows = settled()
    assert confirm(rows.batch_id)
    return rows


def anchored(batch_id: int) -> Batch:
    """A batch that waited for its turn, and is through."""
    stored = batches.submit(batch_id, ACCOUNT, nonce_floor=0, sign=sign)
    assert stored is not None
    transactions.record_mined(stored.id, MINED)
    assert transactions.settle(batch_id)
    assert confirm(batch_id)
    batch: Batch = Batch.get_by_id(batch_id)
    return batch


def finish_all() -> None:
    """Take all that is queued to its end, without workers."""
    ids = [row[0] for row in Write.select(Write.id).where(Write.state == State.QUEUED).tuples()]
    verification.begin(ids)
    [batch_id] = joining.join(ids, [], lane="normal", max_size=len(ids), linger_seconds=0)
    assert batches.submit_mock(batch_id)
    assert confirm(batch_id)


def failed() -> Rows:
    """One that is a dead letter."""
    rows = verified()
    batches.fail_attempt(
        rows.batch_id, NodeUnreachable("no answer"), stage="chain_write", max_attempts=1, min_backoff_ms=5000
    )
    [letter] = [letter for letter in dead_letters.open_letters() if letter.write_id == rows.write_id]
    return Rows(rows.write_id, rows.batch_id, 0, letter.id)


#: How a write gets into each state.
STATES: dict[str, Callable[[], Rows]] = {
    "queued": queued,
    "verified": verified,
    "written": written,
    "settled": settled,
    "confirmed": confirmed,
    "failed": failed,
}


def purge_completed(*, finished_before: float, keep_newest: int = 0) -> list[str]:
    """The job ids of all completed writes that one run of retention purges."""
    chunks = retention.purge_completed(finished_before=finished_before, keep_newest=keep_newest)
    return [job_id for chunk in chunks for job_id in chunk]


def purge(rows: Rows) -> Sequence[str]:
    """Purge whatever has ended."""
    later = time.time() + 1
    failures = retention.purge_failed(finished_before=later)
    return purge_completed(finished_before=later) + list(chain.from_iterable(failures))


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables; less open batches without members, which mean nothing."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for model in Table.__subclasses__():
        table = model._meta.table_name  # type: ignore[attr-defined]
        rows = database.execute_sql(f"SELECT * FROM {table}").fetchall()
        found[table] = sorted((tuple(map(_plain, row)) for row in rows), key=repr)
    empty = {row[0] for row in Batch.select(Batch.id).where(Batch.size == 0, Batch.state == "open").tuples()}
    found["batches"] = [row for row in found["batches"] if row[0] not in empty]
    return found


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def transaction_of(rows: Rows) -> Transaction:
    """The stored transaction."""
    found: Transaction = Transaction.get_by_id(rows.transaction_id)
    return found

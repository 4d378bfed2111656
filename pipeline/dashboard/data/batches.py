"""Batches with their transactions, members and cost, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import status
from pipeline.dashboard.data import jobs, keyset
from pipeline.dashboard.data.jobs import Job
from pipeline.dashboard.data.keyset import Page
from pipeline.database import reading
from pipeline.models import Batch, Transaction, Write

#: Members on a page.
MEMBERS = 50

#: Transactions of a batch that are shown, the newest; each replacement is one.
TRANSACTIONS = 50


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch. ``cost_wei``: gas times price, once mined; ``seconds_to_confirm``: since submission."""

    id: int
    lane: str
    state: str
    size: int
    mock: bool
    merkle_root: str | None
    chain_id: int | None
    transaction_hash: str | None
    block_number: int | None
    gas_used: int | None
    gas_price_wei: int | None
    cost_wei: int | None
    cost_per_credential_wei: int | None
    created_at: float
    submitted_at: float | None
    confirmed_at: float | None
    seconds_to_confirm: float | None


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """One signed transaction; its state is as in `pipeline.models.TransactionState`, or ``lost`` for good."""

    hash: str
    nonce: int
    signer: str
    state: str
    gas_limit: int
    max_fee_wei: int
    tip_wei: int
    created_at: float
    sent_at: float | None
    block_number: int | None


@dataclass(frozen=True, slots=True)
class Detail:
    """A batch, its transactions (newest first), and a page of its members."""

    batch: BatchRow
    transactions: tuple[TransactionRow, ...]
    members: Page[Job]


@reading
def page(*, before: str | None = None, after: str | None = None, limit: int = 50) -> Page[BatchRow]:
    """The batches, open ones too. Raises as `keyset.page` does."""
    return keyset.page([Batch.select()], (Batch.id,), row_of, before=before, after=after, limit=limit)


@reading
def detail(batch_id: int, *, before: str | None = None, after: str | None = None) -> Detail:
    """One batch; the cursors are of its members. Raises `LookupError`, and as `keyset.page` does."""
    batch: Batch | None = Batch.get_or_none(Batch.id == batch_id) if 0 < batch_id <= keyset.MAX_ID else None
    if batch is None:
        raise LookupError(f"there is no batch {batch_id}")
    mine = Transaction.select().where(Transaction.batch == batch_id)
    return Detail(
        batch=row_of(batch),
        transactions=tuple(
            _transaction(row) for row in mine.order_by(Transaction.id.desc()).limit(TRANSACTIONS)
        ),
        members=members(batch_id, before=before, after=after),
    )


def members(
    batch_id: int, *, before: str | None = None, after: str | None = None, limit: int = MEMBERS
) -> Page[Job]:
    """The jobs of a batch, by the index ``writes_of_batch``: the order has its columns."""
    query = status.select().where(Write.batch == batch_id)
    columns = (Write.batch, Write.id)
    return keyset.page([query], columns, jobs.viewer(), before=before, after=after, limit=limit)


def row_of(batch: Any) -> BatchRow:
    """What is shown of a batch."""
    price_wei = None if batch.gas_price_wei is None else int(batch.gas_price_wei)
    cost_wei = None if price_wei is None or batch.gas_used is None else batch.gas_used * price_wei
    known = batch.confirmed_at is not None and batch.submitted_at is not None
    return BatchRow(
        id=batch.id,
        lane=batch.lane,
        state=batch.state,
        size=batch.size,
        mock=bool(batch.mock),
        merkle_root=batch.merkle_root,
        chain_id=batch.chain_id,
        transaction_hash=batch.transaction_hash,
        block_number=batch.block_number,
        gas_used=batch.gas_used,
        gas_price_wei=price_wei,
        cost_wei=cost_wei,
        cost_per_credential_wei=cost_wei // batch.size if cost_wei is not None and batch.size else None,
        created_at=batch.created_at,
        submitted_at=batch.submitted_at,
        confirmed_at=batch.confirmed_at,
        seconds_to_confirm=batch.confirmed_at - batch.submitted_at if known else None,
    )


def _transaction(row: Any) -> TransactionRow:
    return TransactionRow(
        hash=row.hash,
        nonce=row.nonce,
        signer=row.signer,
        state=row.state if row.lost_at is None else "lost",
        gas_limit=row.gas_limit,
        max_fee_wei=int(row.max_fee_wei),
        tip_wei=int(row.tip_wei),
        created_at=row.created_at,
        sent_at=row.sent_at,
        block_number=row.block_number,
    )

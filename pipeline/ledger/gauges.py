"""What the ledger tells of now, each by an index: a scrape reads no big table."""

from __future__ import annotations

import time
from typing import Any

import peewee as pw
from peewee import fn

from pipeline.database import reading
from pipeline.ledger import states
from pipeline.ledger.sql import rows
from pipeline.models import (
    Batch,
    BatchState,
    Chain,
    Control,
    DeadLetter,
    Incident,
    Signer,
    Transaction,
    TransactionState,
    Write,
)

#: Each state's rows; since when the oldest one is there; and the order in which its index has them.
OLDEST = {
    "waiting": (states.WAITING, Write.queued_at, (Write.id,)),
    "active": (states.ACTIVE, Write.queued_at, (Write.id,)),
    "delayed": (states.DELAYED, Write.queued_at, (Write.id,)),
    "completed": (states.COMPLETED, Write.finished_at, (Write.finished_at, Write.id)),
    "failed": (states.FAILED, Write.finished_at, (Write.finished_at, Write.id)),
}


@reading
def oldest_seconds(state: str) -> float:
    """Since when the oldest job of a state is queued, or has ended; 0 when there is none.

    Of those on their way the one that was made first counts.
    """
    condition, since, order = OLDEST[state]
    return _age(Write.select(since).where(condition).order_by(*order).limit(1))


@reading
def oldest_unmined_seconds() -> float:
    """Since when the oldest transaction is signed that is in no block; 0 when there is none."""
    unmined = Transaction.state.in_(TransactionState.UNMINED) & Transaction.lost_at.is_null()
    return _age(Transaction.select(fn.MIN(Transaction.created_at)).where(unmined))


@reading
def settle_lag_seconds() -> float:
    """Since when the oldest batch is signed that is not deep enough in the chain; 0 when there is none."""
    return _age(Batch.select(fn.MIN(Batch.submitted_at)).where(Batch.state == BatchState.SUBMITTED))


def _age(query: pw.Query) -> float:
    found = rows(query)
    since = found[0][0] if found else None
    return 0.0 if since is None else max(0.0, time.time() - since)


@reading
def ready() -> int:
    """How many credentials are in batches that are due to be written."""
    waiting = Batch.state.in_(BatchState.WAITING) & (Batch.due_at <= time.time())
    return int(Batch.select(fn.COALESCE(fn.SUM(Batch.size), 0)).where(waiting).scalar())


@reading
def open_dead_letters() -> int:
    """How many dead letters nobody has resolved; counted by what the index of the open ones holds."""
    query = DeadLetter.select(fn.COUNT(DeadLetter.write)).where(DeadLetter.resolved_at.is_null())
    return int(query.scalar())


@reading
def open_incidents() -> dict[str, int]:
    """How many incidents are not over, by kind."""
    query = Incident.select(Incident.kind, fn.COUNT(Incident.id)).where(Incident.closed_at.is_null())
    return dict(rows(query.group_by(Incident.kind)))


@reading
def controls() -> dict[str, str]:
    """All facts that processes share, by name."""
    return dict(rows(Control.select(Control.name, Control.value)))


@reading
def seen_block(chain_id: int) -> tuple[int, float] | None:
    """Number and time of the newest block up to which a sweep has looked; None before the first."""
    mine: Any = (Chain.chain_id == chain_id) & Chain.seen_time.is_null(False)
    found = rows(Chain.select(Chain.seen_number, Chain.seen_time).where(mine))
    return found[0] if found else None


@reading
def balance(chain_id: int) -> tuple[int, float] | None:
    """What the signer owns that a node was asked about last, in wei, and when that was; None before that.

    After a rotation that is the new key: nobody asks about the old one any more.
    """
    mine: Any = (Signer.chain_id == chain_id) & Signer.balance_at.is_null(False)
    query = Signer.select(Signer.balance_wei, Signer.balance_at).where(mine)
    found = rows(query.order_by(Signer.balance_at.desc()).limit(1))
    return (int(found[0][0]), found[0][1]) if found else None

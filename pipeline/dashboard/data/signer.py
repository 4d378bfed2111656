"""The keys that sign: nonces, what is under way, and how long the funds last."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from peewee import fn

from pipeline.database import reading
from pipeline.ledger import funds, under_way
from pipeline.models import Signer, Transaction, TransactionState


@dataclass(frozen=True, slots=True)
class SignerView:
    """One key on one chain. ``in_flight`` counts nonces; ``balance_wei`` is as of ``balance_at``.

    ``days_left``: None where no balance is known, or nothing was spent in the last 24 hours.
    """

    address: str
    chain_id: int
    next_nonce: int
    in_flight: int
    oldest_unmined_seconds: float | None
    balance_wei: int | None
    balance_at: float | None
    spent_per_day_wei: int
    days_left: float | None


@reading
def signers() -> tuple[SignerView, ...]:
    """All keys that were ever given a nonce, earlier ones too, the newest first."""
    return tuple(_view(row) for row in Signer.select().order_by(Signer.id.desc()))


def _view(row: Any) -> SignerView:
    balance_wei = None if row.balance_wei is None else int(row.balance_wei)
    spent_wei = funds.spent_per_day_wei(row.chain_id, row.address)
    return SignerView(
        address=row.address,
        chain_id=row.chain_id,
        next_nonce=row.next_nonce,
        in_flight=under_way.in_flight(row.chain_id, row.address).count,
        oldest_unmined_seconds=_oldest_unmined_seconds(row.chain_id, row.address),
        balance_wei=balance_wei,
        balance_at=row.balance_at,
        spent_per_day_wei=spent_wei,
        days_left=None if balance_wei is None else funds.days_left(balance_wei, spent_wei),
    )


def _oldest_unmined_seconds(chain_id: int, address: str) -> float | None:
    """Since the oldest was signed that is in no block; by the index ``transactions_unmined``."""
    mine = (Transaction.chain_id == chain_id) & (Transaction.signer == address)
    unmined = Transaction.state.in_(TransactionState.UNMINED) & Transaction.lost_at.is_null()
    signed_at = Transaction.select(fn.MIN(Transaction.created_at)).where(mine, unmined).scalar()
    return None if signed_at is None else max(0.0, time.time() - signed_at)

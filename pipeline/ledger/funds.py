"""What a signer has, as its node last said, and what its writes have cost in a day."""

from __future__ import annotations

import time

from peewee import fn

from pipeline.database import reading, transaction
from pipeline.models import Batch, Signer

DAY_SECONDS = 86_400.0


@transaction
def record_balance(chain_id: int, address: str, balance_wei: int) -> bool:
    """Note what the node says of a signer that has been given a nonce; False for any other."""
    now = {"balance_wei": str(balance_wei), "balance_at": time.time()}
    mine = (Signer.chain_id == chain_id) & (Signer.address == address)
    return bool(Signer.update(now).where(mine).execute())


@reading
def balance_is_due(chain_id: int, address: str, *, after_seconds: float) -> bool:
    """Whether the signer's balance is not known, or was asked for longer ago than that.

    False for one that has never been given a nonce: it has no row to be noted in.
    """
    old = Signer.balance_at.is_null() | (Signer.balance_at < time.time() - after_seconds)
    mine = (Signer.chain_id == chain_id) & (Signer.address == address)
    return bool(Signer.select(Signer.id).where(mine, old).exists())


@reading
def spent_per_day_wei(chain_id: int, address: str) -> int:
    """What the signer's batches have cost that were mined in the last 24 hours, by the chain's clock.

    A batch that was repriced counts with what was mined. Left out, as the ledger does not keep their
    gas: what was mined in vain (status 0), what fills a gap, and a deployment.
    """
    price_wei = Batch.gas_price_wei.cast("double precision")  # more than 64 bits may be needed for the sum
    query = Batch.select(fn.SUM(Batch.gas_used * price_wei)).where(
        Batch.chain_id == chain_id,
        Batch.issuer == address,
        Batch.block_time > time.time() - DAY_SECONDS,
    )
    return int(query.scalar() or 0)


def days_left(balance_wei: int, spent_per_day_wei: int) -> float | None:
    """For how many days the balance lasts at that; None when nothing was spent."""
    return balance_wei / spent_per_day_wei if spent_per_day_wei else None

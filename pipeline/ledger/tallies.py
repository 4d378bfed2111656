"""What the ledger counts for the metrics: when it is committed, so that what is begun anew counts once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pipeline.database import database
from pipeline.metrics import catalogue, recorder


def _committed(record: Callable[[], None]) -> None:
    database.after_commit(record)


def attempts(count: int, *, stage: str, outcome: str) -> None:
    """Attempts at so many credentials have ended."""
    if count:
        _committed(lambda: recorder.add(catalogue.ATTEMPTS, count, stage=stage, outcome=outcome))


def dead_letters(count: int, *, stage: str, error: str) -> None:
    """So many credentials have failed for good; ``error`` is the name of an error class."""
    if count:
        _committed(lambda: recorder.add(catalogue.DEAD_LETTERS, count, stage=stage, error=error))
        attempts(count, stage=stage, outcome=catalogue.FAILED)


def batches_written(sizes: Sequence[int]) -> None:
    """Batches of so many were closed and signed."""
    _committed(lambda: recorder.observe(catalogue.BATCH_SIZE, sizes))
    attempts(sum(sizes), stage="chain_write", outcome=catalogue.SUCCEEDED)


def batches_settled(sizes: Sequence[int], submitted_at: Sequence[float]) -> None:
    """The transactions of batches of so many are deep enough."""
    now = time.time()
    seconds = [max(0.0, now - at) for at in submitted_at]  # by two machines' clocks
    _committed(lambda: recorder.observe(catalogue.SETTLEMENT, seconds))
    attempts(sum(sizes), stage="settle", outcome=catalogue.SUCCEEDED)


def confirmed(queued_at: Sequence[float], finished_at: float) -> None:
    """Credentials are confirmed that were queued at these times."""
    seconds = [max(0.0, finished_at - at) for at in queued_at]  # by two machines' clocks
    _committed(lambda: recorder.observe(catalogue.END_TO_END, seconds))
    attempts(len(queued_at), stage="db_update", outcome=catalogue.SUCCEEDED)


def gas(used: int, price_wei: int) -> None:
    """A mined transaction has cost that."""
    _committed(lambda: recorder.add(catalogue.GAS_USED, used))
    _committed(lambda: recorder.add(catalogue.GAS_SPENT, used * price_wei))


def reorg(transactions: int) -> None:
    """A reorg has taken away the block of so many transactions."""
    _committed(lambda: recorder.add(catalogue.REORGS, transactions))


def unconfirmed(count: int) -> None:
    """So many confirmed credentials are pending again."""
    _committed(lambda: recorder.add(catalogue.UNCONFIRMED, count))


def replaced() -> None:
    """A transaction was signed that takes another one's place."""
    _committed(lambda: recorder.add(catalogue.REPLACEMENTS))


def gap_filled() -> None:
    """One was signed for a nonce that had none."""
    _committed(lambda: recorder.add(catalogue.GAP_FILLS))

"""What is under way to a chain: signed for, and not yet deep enough in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pipeline.ledger.fixed import Fixed
from pipeline.ledger.sql import each_of, rows
from pipeline.models import Batch, BatchState, Transaction, TransactionState


@dataclass(frozen=True, slots=True)
class Slot:
    """A nonce that waits for the chain, with every transaction signed for it, the oldest first."""

    chain_id: int
    signer: str
    nonce: int
    batch: Batch | None
    transactions: list[Transaction] = field(repr=False)

    @property
    def current(self) -> Transaction:
        """The one that is to be mined: the last that was signed."""
        return self.transactions[-1]

    @property
    def mined(self) -> Transaction | None:
        """The one that was seen in a block."""
        return next((row for row in self.transactions if row.state == TransactionState.MINED), None)

    @property
    def place(self) -> tuple[int, str] | None:
        """Number and hash of the block in which one of them was seen."""
        mined = self.mined
        if mined is None or mined.block_number is None or mined.block_hash is None:
            return None
        return mined.block_number, mined.block_hash

    @property
    def hashes(self) -> list[str]:
        """Of all its transactions."""
        return [row.hash for row in self.transactions]


def unsettled(chain_id: int) -> list[Slot]:
    """The nonces that wait for the chain, in order for each signer.

    Of those the chain may still decide, or they wait for confirmations. Found from the batches that are
    submitted, and from what is unmined: never from all there is, whatever a planner thinks.
    """
    columns = (Batch.id, Batch.lane, Batch.merkle_root, Batch.contract_address)
    submitted = Batch.select(*columns).where(Batch.state == BatchState.SUBMITTED)
    waiting: dict[int, Batch] = {batch.id: batch for batch in submitted}
    live = (Transaction.chain_id == chain_id) & Transaction.lost_at.is_null()
    found = list(Transaction.select().where(live, _fills_a_gap()))
    for mine in each_of(Transaction.batch, [*waiting]):
        query = Transaction.select().where(live, mine, Transaction.state != TransactionState.REVERTED)
        found += list(query)
    found.sort(key=lambda row: (row.signer, row.nonce, row.id))
    return list(_slots(found, waiting))


def _fills_a_gap() -> Any:
    return Transaction.batch.is_null() & Transaction.state.in_(TransactionState.UNMINED)


def is_any_unsettled(chain_id: int) -> bool:
    """Whether there is one."""
    submitted = (Batch.state == BatchState.SUBMITTED) & (Batch.chain_id == chain_id)
    fillers = (Transaction.chain_id == chain_id) & Transaction.lost_at.is_null() & _fills_a_gap()
    return any(
        rows(table.select(table.id).where(mine).limit(1))
        for table, mine in ((Batch, submitted), (Transaction, fillers))
    )


def _slots(found: Iterable[Transaction], batches: Mapping[int, Batch]) -> Iterable[Slot]:
    for (chain_id, signer, nonce), group in groupby(found, lambda row: (row.chain_id, row.signer, row.nonce)):
        members = list(group)
        yield Slot(chain_id, signer, nonce, batches.get(members[0].batch_id), members)


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is signed for and not yet mined: how many nonces, and what they may still cost at most."""

    count: int
    reserved_wei: int


def in_flight(chain_id: int | None, signer: str | None = None, used_below: int = 0) -> InFlight:
    """What is under way on a chain, of one signer or of all.

    Not what has a nonce below ``used_below``: the chain has used those, and no sweep has noted it yet.
    """
    if chain_id is None or signer is None:
        found = rows(_under_way(chain_id, signer, used_below))
    else:
        found = _of_one(chain_id, signer, used_below).fetchall()
    dearest: dict[tuple[str, int], int] = {}
    for owner, nonce, gas_limit, max_fee_wei in found:
        cost_wei = gas_limit * int(max_fee_wei)
        dearest[owner, nonce] = max(dearest.get((owner, nonce), 0), cost_wei)
    return InFlight(len(dearest), sum(dearest.values()))


def _under_way(chain_id: Any, signer: Any, used_below: Any) -> Any:
    query = Transaction.select(
        Transaction.signer, Transaction.nonce, Transaction.gas_limit, Transaction.max_fee_wei
    ).where(
        Transaction.state.in_(TransactionState.UNMINED),
        Transaction.lost_at.is_null(),
        Transaction.nonce >= used_below,
    )
    if chain_id is not None:
        query = query.where(Transaction.chain_id == chain_id)
    if signer is not None:
        query = query.where(Transaction.signer == signer)
    return query


_of_one = Fixed(_under_way)


def waiting(chain_id: int, signer: str) -> list[int]:
    """The nonces of a signer that are signed for, and in no block as far as a sweep has seen; sorted."""
    return sorted({row[0] for row in _waiting(chain_id, signer).fetchall()})


_waiting = Fixed(
    lambda chain_id, signer: Transaction.select(Transaction.nonce).where(
        Transaction.state.in_(TransactionState.UNMINED),
        Transaction.lost_at.is_null(),
        Transaction.chain_id == chain_id,
        Transaction.signer == signer,
    )
)

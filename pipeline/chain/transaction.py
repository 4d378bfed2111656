"""Transactions of the signer, made and signed here, sent elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.chain.fees import Fees
from pipeline.chain.signer import Signer


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A signed transaction and what went into it. ``hash`` is known before it is sent."""

    raw: bytes
    hash: str
    nonce: int
    gas_limit: int
    max_fee_wei: int
    tip_wei: int


def prepare(
    signer: Signer, *, chain_id: int, nonce: int, to: str | None, data: bytes, gas_limit: int, fees: Fees
) -> PreparedTransaction:
    """Sign a transaction without value; ``to`` None creates a contract. Nothing is sent."""
    fields: dict[str, Any] = {"chainId": chain_id, "nonce": nonce, "gas": gas_limit, "value": 0, "data": data}
    if to is not None:
        fields["to"] = to
    signed = signer.sign(fields | _fee_fields(fees))
    return PreparedTransaction(signed.raw, signed.hash, nonce, gas_limit, fees.max_fee_wei, fees.tip_wei)


def _fee_fields(fees: Fees) -> dict[str, Any]:
    if fees.legacy:
        return {"gasPrice": fees.max_fee_wei}
    return {"type": 2, "maxFeePerGas": fees.max_fee_wei, "maxPriorityFeePerGas": fees.tip_wei}

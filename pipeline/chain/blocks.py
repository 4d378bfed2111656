"""What a node tells of blocks and receipts, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ChainError


@dataclass(frozen=True, slots=True)
class Block:
    """A block's place in the chain; ``timestamp`` in seconds since 1970."""

    number: int
    hash: str
    timestamp: int
    #: Of the block below; empty where a node does not tell.
    parent_hash: str = ""

    @classmethod
    def from_rpc(cls, answer: Mapping[str, Any]) -> Block:
        """Read a block object of ``eth_getBlockByNumber``."""
        number, timestamp = quantity(answer["number"]), quantity(answer["timestamp"])
        return cls(number, answer["hash"], timestamp, answer.get("parentHash") or "")


@dataclass(frozen=True, slots=True)
class Heads:
    """How far a chain is, and a signer on it, all of one node at one moment."""

    head: Block
    #: The highest block that the node calls final; None where it serves no such thing.
    finalized: int | None
    #: The signer's next nonce by what is mined, and by what is in the node's pool as well.
    mined_nonce: int
    pending_nonce: int


class BlockReceiptsUnsupported(ChainError):
    """The node does not serve ``eth_getBlockReceipts``: ask for single receipts."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a transaction was mined, and how it went: ``status`` 1 done, 0 reverted."""

    transaction_hash: str
    block_number: int
    block_hash: str
    status: int
    gas_used: int
    #: What a unit of gas did cost, base fee and tip together.
    gas_price_wei: int
    #: The contract that the transaction has created.
    contract_address: str | None

    @classmethod
    def from_rpc(cls, answer: Mapping[str, Any]) -> Receipt:
        """Read a receipt object of ``eth_getTransactionReceipt``."""
        return cls(
            transaction_hash=answer["transactionHash"],
            block_number=quantity(answer["blockNumber"]),
            block_hash=answer["blockHash"],
            status=quantity(answer["status"]),
            gas_used=quantity(answer["gasUsed"]),
            gas_price_wei=quantity(answer.get("effectiveGasPrice") or 0),
            contract_address=answer.get("contractAddress"),
        )


def quantity(value: str | int) -> int:
    """A JSON-RPC quantity: hex text with ``0x``; a node in this process may hand out ints."""
    return value if isinstance(value, int) else int(value, 16)

"""Which transaction anchored a root: the registry knows who and when, the log of its event knows where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.chain.blocks import Block
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.errors import ChainError

if TYPE_CHECKING:
    from pipeline.chain.registry import Registry

#: The event that says where a root was anchored; the root and the issuer are indexed.
EVENT = "Anchored(bytes32,address)"
#: Over how many blocks logs are asked for at once. Public nodes limit it, many to 10,000; where it
#: is less than this the node's error halves it.
RANGE_BLOCKS = 1000


def find(rpc: RpcClient, registry: Registry, root: bytes) -> str | None:
    """The hash of the transaction that anchored ``root`` (32 bytes).

    None when nobody did, or when the node has no logs that old. The block is narrowed down by the
    time that the registry has stored, so that a long chain costs a dozen requests and no scan.
    Raises `RpcError` when the node answers no question for the logs of a single block.
    """
    anchor = registry.anchored_by(root)
    if anchor is None:
        return None
    head = Block.from_rpc(rpc.call("eth_getBlockByNumber", ["latest", False]))
    ranges = [(0, head.number)]
    while ranges:
        low, high = ranges.pop()
        logs = _logs(rpc, registry.address, root, low, high) if high - low < RANGE_BLOCKS else None
        if logs:
            return str(logs[0]["transactionHash"])
        if logs is None:
            middle = (low + high) // 2
            seconds = _timestamp(rpc, middle)
            # Blocks can have the same timestamp: then it may be in either half.
            if seconds >= anchor.timestamp:
                ranges.append((low, middle))
            if seconds <= anchor.timestamp:
                ranges.append((middle + 1, high))
    return None


def _logs(rpc: RpcClient, address: str, root: bytes, low: int, high: int) -> Any:
    """The event's logs for that root in these blocks, both included; None: too many blocks for the node."""
    from eth_utils.crypto import keccak

    wanted = {
        "address": address,
        "topics": ["0x" + keccak(text=EVENT).hex(), "0x" + root.hex()],
        "fromBlock": hex(low),
        "toBlock": hex(high),
    }
    try:
        return rpc.call("eth_getLogs", [wanted]) or []
    except RpcError:
        if low == high:
            raise
        return None


def _timestamp(rpc: RpcClient, number: int) -> int:
    block = rpc.call("eth_getBlockByNumber", [hex(number), False])
    if not block:
        raise ChainError(f"the node does not have block {number}, which another one has told of")
    return Block.from_rpc(block).timestamp

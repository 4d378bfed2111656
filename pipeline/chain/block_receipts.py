"""Whole blocks of receipts, where the node serves them: a hundred times cheaper than one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline.chain.blocks import BlockReceiptsUnsupported, Receipt
from pipeline.chain.rpc import RpcClient, RpcError

#: In one HTTP request: a full block has a few thousand receipts, which take a node 0.3 s a thousand.
BLOCKS_PER_REQUEST = 8
#: JSON-RPC's "method not found" and "invalid request", which some say of a method they do not serve.
_NO_SUCH_METHOD = (-32601, -32600)
_NOT_SERVED = re.compile(r"(method|getBlockReceipts).*(not|n't)|un(known|supported).*method", re.IGNORECASE)
#: What nodes say, in place of null, of a block that they do not have.
_NO_SUCH_BLOCK = re.compile(r"(block|header).*not found|(unknown|no) block", re.IGNORECASE)


class BlockReceipts:
    """``eth_getBlockReceipts``, not asked again of a node that does not serve it. Threads may share it."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._missing_since: int | None = None

    def of(self, numbers: Sequence[int]) -> dict[int, list[Receipt] | None]:
        """All receipts of the canonical blocks at those heights, None for a block that is not there.

        Raises `BlockReceiptsUnsupported`, at once until the node is lost or changed; `RpcError`.
        """
        found: dict[int, list[Receipt] | None] = {}
        for start in range(0, len(numbers), BLOCKS_PER_REQUEST):
            found |= self._ask(numbers[start : start + BLOCKS_PER_REQUEST])
        return found

    def _ask(self, numbers: Sequence[int]) -> dict[int, list[Receipt] | None]:
        reconnects = self._rpc.reconnects
        if self._missing_since == reconnects:
            raise BlockReceiptsUnsupported("the node serves no receipts by block")
        answers = self._rpc.batch([("eth_getBlockReceipts", [hex(number)]) for number in numbers])
        if any(map(_is_unsupported, answers)):
            self._missing_since = reconnects
            raise BlockReceiptsUnsupported("the node serves no receipts by block")
        return {number: _receipts(answer) for number, answer in zip(numbers, answers, strict=True)}


def _is_unsupported(answer: Any) -> bool:
    return isinstance(answer, RpcError) and (
        answer.rpc_code in _NO_SUCH_METHOD or bool(_NOT_SERVED.search(str(answer)))
    )


def _receipts(answer: Any) -> list[Receipt] | None:
    if isinstance(answer, RpcError):
        if _NO_SUCH_BLOCK.search(str(answer)):
            return None
        raise answer
    return None if answer is None else [Receipt.from_rpc(receipt) for receipt in answer]

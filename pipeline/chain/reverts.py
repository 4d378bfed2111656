"""Why a mined transaction failed: its receipt says only that it did, and no node keeps the reason."""

from __future__ import annotations

from typing import Any

from pipeline.chain.blocks import Receipt
from pipeline.chain.registry import Revert, RevertKind, revert_of, revert_text
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.chain.wire import Request
from pipeline.errors import ChainError


def explain(rpc: RpcClient, receipt: Receipt) -> Revert:
    """Make the call of a transaction of status 0 once more, and read what it says.

    In the states after its block, before it, and now: the first that fails tells, for nobody can
    go back into the middle of a block, and many nodes have no state older than 128 blocks. One
    node answers all of it, and has to have that block: one that lags, or is on another fork, would
    call a root unanchored that is on the chain.

    Raises `ChainError` when the node can't tell yet, `RpcError` when it runs no calls.
    """
    mined = rpc.call("eth_getTransactionByHash", [receipt.transaction_hash])
    if not mined:
        raise ChainError(f"the node does not know transaction {receipt.transaction_hash} any more")
    block, *answers = rpc.batch(_questions(mined, receipt.block_number))
    if isinstance(block, RpcError):
        raise block
    if not block or block["hash"] != receipt.block_hash:
        raise ChainError(f"the node has another block {receipt.block_number} than {receipt.block_hash}")
    errors = [answer for answer in answers if isinstance(answer, RpcError)]
    reasons = [reason for error in errors if (reason := revert_text(error)) is not None]
    if reasons:
        return revert_of(next(filter(None, reasons), None))
    if len(errors) == len(answers):
        raise errors[0]
    return Revert(RevertKind.OVER, "the same call succeeds now")


def _questions(mined: dict[str, Any], number: int) -> list[Request]:
    call = {"from": mined["from"], "to": mined["to"], "gas": mined["gas"], "data": mined["input"]}
    states = (hex(number), hex(max(number - 1, 0)), "latest")
    return [
        ("eth_getBlockByNumber", [hex(number), False]),
        *(("eth_call", [call, state]) for state in states),
    ]

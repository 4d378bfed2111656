"""Answers that are errors, with the codes and texts that geth uses where it has one."""

from __future__ import annotations

from typing import Any

#: JSON-RPC 2.0, and EIP-1474 for the -32000 range.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
#: geth's code for a reverted call; ``data`` is what the contract returned.
REVERTED = 3


class RpcError(Exception):
    """What the caller is told in place of a result."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def rejected(message: str) -> RpcError:
    """A transaction that the node does not take, in geth's words."""
    return RpcError(SERVER_ERROR, message)

"""One JSON-RPC call over HTTP, with the standard library: asks a starting node whether it answers."""

from __future__ import annotations

import itertools
import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

_ids = itertools.count(1)


class JsonRpcError(Exception):
    """The node answered with an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.data = code, message, data


def call(url: str, method: str, *params: Any, timeout_seconds: float = 30.0) -> Any:
    """The result of ``method``. Raises `JsonRpcError`, or `OSError` when nothing answers."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
    body = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
    try:
        connection.request("POST", parts.path or "/", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except HTTPException as exc:
        raise ConnectionError(f"{url} broke off its answer: {exc!r}") from exc
    finally:
        connection.close()
    if error := answer.get("error"):
        raise JsonRpcError(error["code"], error["message"], error.get("data"))
    return answer["result"]


def answers(url: str) -> bool:
    """Whether a node answers at ``url``."""
    try:
        call(url, "eth_chainId", timeout_seconds=1.0)
    except (OSError, ValueError):
        return False
    return True

"""A node behind a proxy, which can be made one that lags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

#: What geth says for nearly everything that is wrong.
GETH_CODE = -32000
UPSTREAM_TIMEOUT_SECONDS = 30.0

#: Calls whose last parameter says at which height.
STATE = ("eth_call", "eth_getBalance", "eth_getCode", "eth_getStorageAt", "eth_getTransactionCount")

Answer = dict[str, Any]


class Upstream:
    """A node; `freeze` makes it one that has stopped to follow the chain."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._heights: dict[str, int] | None = None

    def freeze(self, at: int | None) -> None:
        """Show nothing above the height ``at`` (None: its head now)."""
        self.thaw()
        head = int(self.ask_one("eth_blockNumber"), 16) if at is None else at
        heights = {"latest": head, "pending": head}
        for tag in ("safe", "finalized"):
            block = self.ask_one("eth_getBlockByNumber", tag, False)
            heights[tag] = min(head, int(block["number"], 16)) if block else 0
        self._heights = heights

    def thaw(self) -> None:
        """Show all."""
        self._heights = None

    def ask_one(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises `KeyError` on an error."""
        return self.ask([{"jsonrpc": "2.0", "id": 0, "method": method, "params": params}])[0]["result"]

    def ask(self, requests: Sequence[Answer]) -> list[Answer]:
        """The node's answers, in the order of ``requests``, with their ids. Raises `OSError`."""
        heights = self._heights
        numbered = [{**request, "id": number} for number, request in enumerate(requests)]
        if heights:
            numbered = [_with_heights(request, heights) for request in numbered]
        answers = self._post(numbered if len(numbered) > 1 else numbered[0])
        by_id = {answer["id"]: answer for answer in (answers if isinstance(answers, list) else [answers])}
        found = [{**by_id[number], "id": request["id"]} for number, request in enumerate(requests)]
        if heights:
            return [_hidden(*pair, heights["latest"]) for pair in zip(requests, found, strict=True)]
        return found

    def _post(self, body: Any) -> Any:
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=UPSTREAM_TIMEOUT_SECONDS)
        try:
            connection.request(
                "POST", parts.path or "/", json.dumps(body), {"Content-Type": "application/json"}
            )
            return json.loads(connection.getresponse().read())
        except HTTPException as exc:
            raise ConnectionError(f"{self.url} broke off its answer: {exc!r}") from exc
        finally:
            connection.close()


def refusal(request: Answer, message: str) -> Answer:
    """A JSON-RPC error in the place of an answer."""
    return {
        "jsonrpc": "2.0",
        "id": request["id"],
        "error": {"code": GETH_CODE, "message": message},
    }


def _with_heights(request: Answer, heights: dict[str, int]) -> Answer:
    """The request with the lagging node's heights in place of ``latest`` and the other tags."""
    params = [
        hex(heights[param]) if isinstance(param, str) and param in heights else param
        for param in request.get("params", [])
    ]
    return {**request, "params": params}


def _hidden(request: Answer, answer: Answer, head: int) -> Answer:
    """The answer without what is above the lagging node's head."""
    result = answer.get("result")
    if request["method"] == "eth_blockNumber":
        return {**answer, "result": hex(head)}
    params = request.get("params", [])
    if request["method"] == "eth_getBlockReceipts" and _above(params[0], head):
        return {**answer, "result": None}
    if request["method"] in STATE and _above(params[-1], head):
        return refusal(request, "header not found")
    if isinstance(result, dict) and _above(result.get("blockNumber", result.get("number")), head):
        return {**answer, "result": None}
    if request["method"] in ("eth_getBlockReceipts", "eth_getLogs") and result:
        kept = [one for one in result if not _above(one.get("blockNumber"), head)]
        return {**answer, "result": kept or ([] if request["method"] == "eth_getLogs" else None)}
    return answer


def _above(height: Any, head: int) -> bool:
    # Not a tag, and a block's hash is longer than any height.
    is_height = isinstance(height, str) and height.startswith("0x") and len(height) < 20
    return is_height and int(height, 16) > head

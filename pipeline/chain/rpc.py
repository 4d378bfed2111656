"""JSON-RPC over one or several URLs; the edge at which a node's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.chain import calls
from pipeline.chain.answers import AnswerKind, SendAnswer, classify
from pipeline.chain.endpoint import Endpoint
from pipeline.chain.wire import TIMEOUT_SECONDS, NoAnswer, Request
from pipeline.errors import ChainError, NodeUnreachable
from pipeline.settings import Settings

#: Providers limit the size of a batch; nobody's limit is below this.
BATCH_SIZE = 100


class RpcError(ChainError):
    """A node answered with a JSON-RPC error; ``rpc_code`` and ``data`` are the node's.

    So are ``words``, on one line and without secrets; before them the message names the node.
    """

    def __init__(self, words: str, rpc_code: int | None = None, data: Any = None, *, node: str = "") -> None:
        super().__init__(f"{node}: {words}" if node else words)
        self.words = words
        self.rpc_code = rpc_code
        self.data = data


class RpcClient:
    """Asks the first URL that answers. Threads may share it."""

    def __init__(self, urls: Sequence[str], timeout_seconds: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        self._endpoints = [Endpoint(url, timeout_seconds) for url in urls]
        self._current: Endpoint | None = None
        self._changes = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> RpcClient:
        """A client for BLOCKCHAIN_RPC_URL that has not connected yet."""
        return cls(settings.rpc_urls)

    @property
    def reconnects(self) -> int:
        """Counts the changes of node, and the returns of a lost one: what was checked before is stale."""
        return self._changes + sum(endpoint.reopened for endpoint in self._endpoints)

    def __repr__(self) -> str:
        return f"<RpcClient {', '.join(endpoint.name for endpoint in self._endpoints)}>"

    def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """The result of one read. Raises `RpcError`, `NodeUnreachable`."""
        result = self.batch([(method, params)])[0]
        if isinstance(result, RpcError):
            raise result
        return result

    def batch(self, requests: Sequence[Request]) -> list[Any]:
        """The results of several reads, a `RpcError` in place of each that failed.

        One HTTP request for each hundred. Raises `NodeUnreachable`.
        """
        results: list[Any] = []
        for start in range(0, len(requests), BATCH_SIZE):
            results += self._read(requests[start : start + BATCH_SIZE])
        return results

    def broadcast(self, raw: bytes) -> SendAnswer:
        """Hand a signed transaction to the first node that answers, to each at most once."""
        return self.broadcast_many([raw])[0]

    def broadcast_many(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """The same with several, in their order; one HTTP request for each hundred.

        Without an answer all of a request are in doubt.
        """
        answers: list[SendAnswer] = []
        for start in range(0, len(raws), BATCH_SIZE):
            answers += self._broadcast(raws[start : start + BATCH_SIZE])
        return answers

    def _broadcast(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        requests = [("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws]
        failures: list[str] = []
        in_doubt = False
        for endpoint in self._in_turn(failures):
            try:
                answers = calls.counted(endpoint, requests, repeatable=False)
            except NoAnswer as failure:
                in_doubt |= failure.maybe_taken
                self._lost(endpoint, failure, failures)
                continue
            self._answered(endpoint)
            sent = [classify(answer.get("error"), endpoint.mask) for answer in answers]
            return [_doubted(one, endpoint, failures) for one in sent] if in_doubt else sent
        return [SendAnswer(AnswerKind.UNKNOWN, "; ".join(failures))] * len(raws)

    def _read(self, requests: Sequence[Request]) -> list[Any]:
        failures: list[str] = []
        for endpoint in self._in_turn(failures):
            try:
                answers = calls.counted(endpoint, requests, repeatable=True)
            except NoAnswer as failure:
                self._lost(endpoint, failure, failures)
                continue
            self._answered(endpoint)
            return [_result(answer, endpoint) for answer in answers]
        raise NodeUnreachable("no node answers: " + "; ".join(failures))

    def _in_turn(self, failures: list[str]) -> Iterator[Endpoint]:
        """The URLs in their order, those that failed lately last, those that asked for a pause not at all."""
        for endpoint in sorted(self._endpoints, key=lambda endpoint: endpoint.resting):
            if pause_seconds := endpoint.pause_seconds:
                failures.append(f"{endpoint.name} wants no requests for {pause_seconds:.0f} s")
            else:
                yield endpoint

    def _lost(self, endpoint: Endpoint, failure: NoAnswer, failures: list[str]) -> None:
        failures.append(f"{endpoint.name} {failure}")
        if self._current is endpoint:
            self._current = None

    def _answered(self, endpoint: Endpoint) -> None:
        if self._current is not endpoint:
            self._current = endpoint
            self._changes += 1


def _doubted(sent: SendAnswer, endpoint: Endpoint, failures: Sequence[str]) -> SendAnswer:
    """What a node's answer means where an earlier one may have taken it, whatever this one thinks."""
    if sent.taken or sent.kind is AnswerKind.NONCE_USED:
        return sent
    return SendAnswer(AnswerKind.UNKNOWN, "; ".join([*failures, f"{endpoint.name}: {sent.text}"]))


def _result(answer: dict[str, Any], endpoint: Endpoint) -> Any:
    error = answer.get("error")
    if not error:
        return answer["result"]
    words = endpoint.mask(" ".join(str(error.get("message")).split()))
    return RpcError(words, error.get("code"), error.get("data"), node=endpoint.name)

"""One RPC URL: asked in batches where it takes them, and left in peace when it fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pipeline.chain.masking import Mask
from pipeline.chain.wire import PAUSE_SECONDS, TIMEOUT_SECONDS, NoAnswer, Request, Wire
from pipeline.settings import mask_url

#: For so long a URL that failed comes after the others; doubled with each failure.
REST_SECONDS, MAX_REST_SECONDS = 1.0, 30.0
#: What nodes that take no batches answer to one: invalid request, unknown method, unreadable.
NO_BATCHES = (-32600, -32601, -32700)
#: "limit exceeded" (EIP-1474).
LIMIT_EXCEEDED = -32005


class Endpoint:
    """A URL and its state. Threads may share it: a lost count of failures does no harm."""

    def __init__(self, url: str, timeout_seconds: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        self.name = mask_url(url)
        self.mask = Mask(url)
        self.mask.install()
        self._wire = Wire(url, timeout_seconds)
        self._takes_batches = True
        self._failures = 0
        self._rests_until = 0.0
        self._paused_until = 0.0
        #: How often a kept connection was closed, and a new one made without anybody noticing.
        self.reopened = 0

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    @property
    def resting(self) -> bool:
        """It failed lately: the others first."""
        return time.monotonic() < self._rests_until

    @property
    def pause_seconds(self) -> float:
        """For so long the node wants no requests."""
        return max(0.0, self._paused_until - time.monotonic())

    def post(self, requests: Sequence[Request], *, repeatable: bool) -> list[dict[str, Any]]:
        """The node's answers, objects with ``result`` or ``error``, in the order of ``requests``.

        ``repeatable``: ask again at once when the connection was closed, as idle ones are.
        Raises `NoAnswer`.
        """
        try:
            answers = self._ask(requests, repeatable=repeatable)
        except NoAnswer as failure:
            now = time.monotonic()
            self._paused_until = now + failure.pause_seconds
            self._rests_until = now + min(REST_SECONDS * 2**self._failures, MAX_REST_SECONDS)
            self._failures = min(self._failures + 1, 10)
            raise
        self._failures, self._rests_until, self._paused_until = 0, 0.0, 0.0
        return answers

    def _ask(self, requests: Sequence[Request], *, repeatable: bool) -> list[dict[str, Any]]:
        try:
            return self._exchange(requests)
        except NoAnswer as failure:
            if not (repeatable and failure.closed):
                raise
        self.reopened += 1
        return self._exchange(requests)

    def _exchange(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        if len(requests) > 1 and self._takes_batches:
            answer = self._wire.batch(requests)
            if isinstance(answer, list):
                return _checked(answer, requests)
            error = _checked([answer], requests[:1])[0].get("error")
            if not error or error.get("code") not in NO_BATCHES:
                raise NoAnswer("answered a batch with something else")
            self._takes_batches = False
        return _checked(self._one_by_one(requests), requests)

    def _one_by_one(self, requests: Sequence[Request]) -> list[Any]:
        answers: list[Any] = []
        for request in requests:
            try:
                answers.append(self._wire.one(request))
            except NoAnswer as failure:
                if answers:  # those before it may have been done
                    failure.maybe_taken = True
                raise
        return answers


def _checked(answers: list[Any], requests: Sequence[Request]) -> list[dict[str, Any]]:
    """``answers``, when they are JSON-RPC's, one for each request, and none says "limit exceeded".

    Of logs some nodes say that when they were asked for too many blocks: then it is an answer.
    """
    if len(answers) != len(requests) or not all(map(_is_answer, answers)):
        raise NoAnswer("answered with something that is not JSON-RPC")
    if any(
        (answer.get("error") or {}).get("code") == LIMIT_EXCEEDED and method != "eth_getLogs"
        for answer, (method, _) in zip(answers, requests, strict=True)
    ):
        # Of several it may have done the others.
        maybe_taken = len(answers) > 1
        raise NoAnswer(
            "says that its limit is exceeded", maybe_taken=maybe_taken, pause_seconds=PAUSE_SECONDS
        )
    return answers


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, dict) and ("result" in answer or isinstance(answer.get("error"), dict))

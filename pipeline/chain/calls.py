"""Each call of a node is counted, by method and outcome."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any

from pipeline.chain.endpoint import Endpoint
from pipeline.chain.wire import NoAnswer, Request
from pipeline.metrics import catalogue, recorder


def counted(endpoint: Endpoint, requests: Sequence[Request], *, repeatable: bool) -> list[dict[str, Any]]:
    """`Endpoint.post`, noted for the metrics. Raises `NoAnswer`."""
    begin = time.perf_counter()
    try:
        answers = endpoint.post(requests, repeatable=repeatable)
    except NoAnswer:
        _note(begin, [(method, catalogue.NO_ANSWER) for method, _ in requests])
        raise
    outcomes = [catalogue.ERROR if answer.get("error") else catalogue.OK for answer in answers]
    _note(begin, [(method, outcome) for (method, _), outcome in zip(requests, outcomes, strict=True)])
    return answers


def _note(begin: float, calls: list[tuple[str, str]]) -> None:
    seconds = time.perf_counter() - begin
    for (method, outcome), count in Tally(calls).items():
        recorder.add(catalogue.RPC_CALLS, count, method=method, outcome=outcome)
        recorder.observe(catalogue.RPC_DURATION, [seconds] * count, method=method)

"""Promise: the chain gets what the limit allows, no more and hardly less, and nobody else waits for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import dramatiq
import pytest
import redis

from pipeline.broker import broker
from pipeline.embedded.workers import Workers
from pipeline.models import Transaction, Write
from pipeline.settings import get_settings
from tests.benchmarks.targets import busiest
from tests.issuer import chain_variables, completed, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.truth import assert_truthful
from tests.waiting import until
from tests.watching import watched

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

ROSTER = "tests.end_to_end.rosters.skewed"
WAITS = "test:waits"


@contextmanager
def probes(redis_url: str) -> Iterator[list[float]]:
    """Send a message of another actor ten times a second; at the end, how long each has waited."""
    over, waits = threading.Event(), list[float]()
    sent = 0

    def send() -> None:
        nonlocal sent
        while not over.wait(0.1):
            broker.enqueue(
                dramatiq.Message(
                    queue_name="probes", actor_name="probe", args=(time.monotonic(),), kwargs={}, options={}
                )
            )
            sent += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield waits
    finally:
        over.set()
        sender.join()
    with redis.Redis.from_url(redis_url) as client:
        until(lambda: client.llen(WAITS) == sent, seconds=10, what="all probes have arrived")
        waits += map(float, client.lrange(WAITS, 0, -1))


@pytest.fixture
def start_skewed(
    start_workers: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Workers]:
    """Start one ordinary worker process whose clock is so many seconds off."""

    def start(offset: float, **variables: object) -> Workers:
        for name, value in variables.items():
            monkeypatch.setenv(name.upper(), str(value))
        get_settings.cache_clear()
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "CLOCK_OFFSET": str(offset), "PYTHONPATH": root}
        return start_workers(environment=environment, roster=ROSTER)

    return start


def test_the_rate_is_kept_and_reached(
    client: Any,
    start_skewed: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
    redis_url: str,
    full_size: bool,
) -> None:
    """Two processes with clocks half a second apart: one attempt each, at least 9.8 a second, no gaps."""
    count = 500 if full_size else 150
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    for offset in (0.25, -0.25):
        start_skewed(offset, batch_max_size=1, **variables)
    with watched(redis_url) as limiter, probes(redis_url) as waits:
        queue_documents(count)
        until(completed(client, count), seconds=count / 10 + 30, what=f"{count} completed")
    rows = list(Transaction.select().order_by(Transaction.nonce))
    assert [row.nonce for row in rows] == list(range(rows[0].nonce, rows[0].nonce + count))
    assert {row.attempts for row in Write.select()} == {1}
    assert busiest(limiter.slots) <= 10
    used = sorted(limiter.slots)[:count]
    rate = (count - 1) / (used[-1] - used[0])
    p99 = quantiles(waits, n=100)[98]
    # Beside other tests the machine is what one waits for.
    assert busiest([sent.at for sent in proxy.sent]) <= (13 if full_size else 18)
    assert rate >= (9.8 if full_size else 9)
    assert p99 < (0.2 if full_size else 1)
    assert_truthful(anvil, variables)


def test_the_limiter_is_asked_once_a_message(
    client: Any, start_skewed: Callable[..., Workers], anvil: Anvil, redis_url: str, full_size: bool
) -> None:
    """However many wait: as often with 100 queued as with 1,000 (with 40 as with 160, beside others)."""
    variables = chain_variables(anvil)
    start_skewed(0, batch_max_size=1, rate_limit_max=100, **variables)
    calls = []
    for start, count in ((0, 100), (100, 1000)) if full_size else ((0, 40), (40, 160)):
        with watched(redis_url) as limiter:
            queue_documents(count, start=start)
            until(completed(client, start + count), seconds=90, what=f"{count} completed")
        calls.append(limiter.calls / count)
    assert max(calls) <= 1.1

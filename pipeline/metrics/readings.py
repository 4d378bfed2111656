"""What SQL and Redis tell of now, for one scrape; what does not answer is left out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import peewee
import redis

from pipeline import health
from pipeline.database import drop_broken_connection
from pipeline.errors import DatabaseUnavailable
from pipeline.ledger import control, counts, gauges, incidents, under_way
from pipeline.limiter import chain_write_limiter
from pipeline.metrics import catalogue, shared
from pipeline.metrics.catalogue import Gauge
from pipeline.metrics.recorder import Field, series
from pipeline.settings import get_settings

#: A series of a gauge, and its value.
Reading = tuple[Gauge, Field, float]

#: The sweeps, by the name under which the time of their last success is kept.
SWEEPS = {
    control.LAST_SETTLE: "settle",
    control.LAST_RECONCILE: "reconcile",
    control.LAST_PURGE: "purge",
}


def read() -> tuple[list[Reading], dict[Field, float]]:
    """All gauges, and the counters of all processes; only what answers.

    Takes one try of each server that does not.
    """
    drop_broken_connection()
    values = list(_read("database", _of_sql))
    sums: dict[Field, float] = {}
    values += _read("redis", lambda: _of_redis(sums))
    about = {"version": version("credential-pipeline"), "python_version": platform.python_version()}
    return [*values, _one(catalogue.BUILD, 1, **about)], sums


def _one(gauge: Gauge, value: float, **labels: str) -> Reading:
    return gauge, series(gauge, labels), value


def _read(server: str, ask: Callable[[], Iterator[Reading]]) -> Iterator[Reading]:
    """What a server tells, all of it or nothing, and whether it does."""
    found: list[Reading] = []
    try:
        health.CHECKS[server](get_settings())
        found = list(ask())
        up = True
    except (redis.RedisError, peewee.PeeweeException, DatabaseUnavailable):
        up = False  # which is what there is to say
    yield from found
    yield _one(catalogue.UP, up, server=server)


def _of_redis(sums: dict[Field, float]) -> Iterator[Reading]:
    limiter = chain_write_limiter()
    with limiter.backend.client as client:
        sums.update(shared.read(client))
        yield _one(catalogue.WORKERS, shared.living_processes(client))
        yield _one(catalogue.UTILIZATION, min(1.0, limiter.taken() / limiter.limit))


def _of_sql() -> Iterator[Reading]:
    for state, count in counts.read().items():
        yield _one(catalogue.JOBS, count, state=state)
        yield _one(catalogue.OLDEST, gauges.oldest_seconds(state), state=state)
    yield _one(catalogue.READY, gauges.ready())
    yield _one(catalogue.OPEN_LETTERS, gauges.open_dead_letters())
    under_way = gauges.open_incidents()
    for kind, count in under_way.items():
        yield _one(catalogue.INCIDENTS, count, error=kind)
    yield _one(catalogue.HELD, any(kind in under_way for kind in incidents.HOLDING))
    yield from _of_controls(gauges.controls())
    yield from _of_chain()


def _of_controls(facts: dict[str, str]) -> Iterator[Reading]:
    """Of a sweep that has never come to its end there is no time."""
    yield _one(catalogue.PAUSED, facts.get(control.PAUSED) == "true")
    for name, sweep in SWEEPS.items():
        if name in facts:
            yield _one(catalogue.LAST_SUCCESS, float(facts[name]), sweep=sweep)
    if control.SCHEDULER_SEEN in facts:
        yield _one(catalogue.SCHEDULER_SEEN, float(facts[control.SCHEDULER_SEEN]))


def _of_chain() -> Iterator[Reading]:
    chain_id = get_settings().blockchain_chain_id
    yield _one(catalogue.IN_FLIGHT, under_way.in_flight(chain_id).count)
    yield _one(catalogue.OLDEST_UNMINED, gauges.oldest_unmined_seconds())
    yield _one(catalogue.SETTLE_LAG, gauges.settle_lag_seconds())
    seen = gauges.seen_block(chain_id) if chain_id is not None else None
    if seen is not None:
        yield _one(catalogue.HEAD_NUMBER, seen[0])
        yield _one(catalogue.HEAD_AGE, max(0.0, time.time() - seen[1]))
    yield from _of_signer(chain_id)


def _of_signer(chain_id: int | None) -> Iterator[Reading]:
    balance = gauges.balance(chain_id) if chain_id is not None else None
    if balance is not None:
        yield _one(catalogue.BALANCE, balance[0])
        yield _one(catalogue.BALANCE_AT, balance[1])

"""What a credential costs, and what a worker holds, with many more of them queued than are drained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from pipeline.embedded.workers import Workers
from tests.benchmarks import intake
from tests.benchmarks.configuration import MOCK, Configuration
from tests.benchmarks.measuring import WrongResult, await_end, check, ended, running
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.memory import tree_rss_mb
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_most
from tests.benchmarks.usage import tree_cpu_seconds

#: Queued, and the whole of what is measured, in times of all credentials. Where more are queued than
#: that, it is measured from `LEAD` on: with as many under way at its end as at its begin.
BACKLOGS = (1, 10, 100)
MEASURED, LEAD = 2.0, 0.4

#: Of 10,000: how many go before, unmeasured and a message each, for what a process loads once.
WARM_UP_SHARE = 0.06

CPU, RATE, RSS = "CPU s per 1,000", "credentials a second", "worker's RSS MB"

FAILED = "SELECT COUNT(*) FROM writes WHERE state = 'failed'"

#: The axis of the plot.
AXIS = "queued"

FULL_SIZE = 10_000


def _queued(times: int) -> str:
    return f"{times * FULL_SIZE:,} queued"


FEW, MANY = _queued(BACKLOGS[0]), _queued(BACKLOGS[-1])


@dataclass(frozen=True)
class _Moment:
    """Seconds of PostgreSQL's clock, writes that have ended, and CPU seconds of all processes."""

    at: float
    ended: int
    cpu_seconds: float


def ours(site: Site, count: int) -> Figures:
    """One worker process with its five threads, mocked."""
    figures: dict[str, float] = {}
    for times in BACKLOGS:
        figures |= {
            f"{name}, {_queued(times)}": value for name, value in _drained(site, count, times).items()
        }
    few, many = _queued(BACKLOGS[0]), _queued(BACKLOGS[-1])
    return figures | {
        f"{name}, {many} / {few}": figures[f"{name}, {many}"] / figures[f"{name}, {few}"]
        for name in (CPU, RSS)
    }


def _drained(site: Site, count: int, times: int) -> Figures:
    """All of them are queued and have their messages; a part of them, or all, is drained."""
    warm_up = max(1, round(WARM_UP_SHARE * count))
    with _warm(site, warm_up, count * times) as (admin, workers):
        pids = [site.postgres.pid, site.valkey.pid, workers.pid]
        write_ids = intake.waiting()
        before = _moment(admin, pids)
        intake.send(write_ids, Configuration(MOCK).message_size)
        if times > MEASURED:
            await_end(admin, warm_up + round(LEAD * count))
            before = _moment(admin, pids)
            await_end(admin, before.ended + round(MEASURED * count))
        else:
            await_end(admin, warm_up + len(write_ids))
        after = _moment(admin, pids)
        [worker] = workers.worker_pids()
        rss = tree_rss_mb(worker)
        _check(admin, warm_up + count * times, whole=times <= MEASURED)
    drained = after.ended - before.ended
    return {
        CPU: 1000 * (after.cpu_seconds - before.cpu_seconds) / drained,
        RATE: drained / (after.at - before.at),
        RSS: rss,
    }


@contextmanager
def _warm(site: Site, warm_up: int, count: int) -> Iterator[tuple[psycopg.Connection[Any], Workers]]:
    """A database with so many queued, and workers that have done some more before."""
    configuration = Configuration(MOCK)
    with ExitStack() as stack:
        variables, _ = stack.enter_context(site.run(configuration, warm_up + count, fill=intake.copied))
        admin = stack.enter_context(psycopg.connect(variables["DATABASE_URL"], autocommit=True))
        [workers] = stack.enter_context(running(site, configuration, variables))
        stack.enter_context(used_here(variables))
        intake.send(intake.waiting()[:warm_up], 1)
        await_end(admin, warm_up)
        yield admin, workers


def _moment(admin: psycopg.Connection[Any], pids: list[int]) -> _Moment:
    cpu_seconds = sum(map(tree_cpu_seconds, pids))
    [(at,)] = admin.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8")
    return _Moment(at, ended(admin), cpu_seconds)


def _check(admin: psycopg.Connection[Any], count: int, *, whole: bool) -> None:
    if whole:
        check(admin, None, count)
        return
    [(failed,)] = admin.execute(FAILED)
    if failed:
        raise WrongResult(f"scale: {failed} have failed")


def _measures() -> Iterator[Measure]:
    yield Measure(f"{CPU}, {MANY} / {FEW}", at_most(1.3))
    yield Measure(f"{RSS}, {MANY} / {FEW}", at_most(1.1))
    for times in BACKLOGS:
        yield Measure(f"{RATE}, {_queued(times)}", point=(AXIS, times * FULL_SIZE))
    for name in (CPU, RSS):
        for times in BACKLOGS:
            yield Measure(f"{name}, {_queued(times)}")


SCALE = Scenario("scale", tuple(_measures()), ours, None, seconds=(90, 0))

"""Handing in while no worker runs: how long one call takes, and how many a second go in bulk."""

from __future__ import annotations

import shutil
import statistics
import time

from pipeline.hashing import document_hash
from tests.benchmarks.configuration import Configuration
from tests.benchmarks.documents import document
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.site import Site, used_here
from tests.benchmarks.targets import at_least, at_most
from tests.issuer import CID

#: Single calls before those that are timed.
WARM_UP = 200

#: Timed single calls for each credential in bulk; the peer's own proportion is 3,000 to 10,000.
SINGLE_SHARE = 0.3

#: Credentials in one bulk call.
PART = 1000

ONE, ONE_SQLITE = "one `.send()`, PostgreSQL, p50 ms", "one `.send()`, SQLite, p50 ms"
BULK, CPU = "in bulk, a second", "in bulk, CPU s per 1,000"

Item = tuple[str, str, str]


def items(count: int) -> list[Item]:
    """What an issuer hands in for the credentials that `tests.benchmarks.intake` has stored."""
    return [(f"c{number}", document_hash(document(number)), CID) for number in range(count)]


def send_one_by_one(handed_in: list[Item]) -> list[float]:
    """A call for each; returns the milliseconds that each took."""
    from pipeline.actors import hash_verify

    took = []
    for item in handed_in:
        begin = time.perf_counter()
        hash_verify.send(*item)
        took.append(1000 * (time.perf_counter() - begin))
    return took


def send_in_bulk(handed_in: list[Item]) -> None:
    """A call for each thousand."""
    from pipeline.client import write_many_to_blockchain_queued

    for start in range(0, len(handed_in), PART):
        write_many_to_blockchain_queued(handed_in[start : start + PART])


def ours(site: Site, count: int) -> Figures:
    """In this process, to empty servers."""
    single = WARM_UP + round(SINGLE_SHARE * count)
    return {**_postgresql(site, count, single), ONE_SQLITE: _sqlite(site, single)}


def _postgresql(site: Site, count: int, single: int) -> Figures:
    handed_in = items(single + count)
    with (
        site.run(Configuration("intake"), len(handed_in)) as (variables, _),
        used_here(variables),
    ):
        took = send_one_by_one(handed_in[:single])[WARM_UP:]
        begin, cpu = time.perf_counter(), time.process_time()
        send_in_bulk(handed_in[single:])
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {ONE: statistics.median(took), BULK: count / seconds, CPU: 1000 * cpu / count}


def _sqlite(site: Site, single: int) -> float:
    """Milliseconds of the median call; the file is on the same disk as PostgreSQL's."""
    folder = site.new_folder("sqlite")
    with used_here(site.on_sqlite(folder / "credentials.db", single)):
        took = send_one_by_one(items(single))[WARM_UP:]
    shutil.rmtree(folder)
    return statistics.median(took)


def theirs(peer: Peer, _count: int) -> Figures:
    """Always 3,000 single calls, and 10,000 in bulk."""
    [row] = peer.rows("A")
    return {
        ONE: row["p50_ms"],
        ONE_SQLITE: row["p50_ms"],
        BULK: row["bulk_per_s"],
        CPU: row["bulk_cpu_s_per_1000"],
    }


INTAKE = Scenario(
    "intake",
    (
        Measure(ONE, at_most(3, times_peer=True)),
        Measure(ONE_SQLITE, at_most(3, times_peer=True)),
        Measure(BULK, at_least(2, times_peer=True)),
        Measure(CPU),
    ),
    ours,
    theirs,
    seconds=(60, 10),
)

"""Handing in while no worker runs: how long one call takes, and how many a second go in bulk."""

from __future__ import annotations

import statistics
import time

from pipeline.hashing import document_hash
from pipeline.intake import CredentialRecord
from pipeline.ledger import credentials
from pipeline.ledger.sql import chunks
from tests.benchmarks.configuration import Configuration
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.site import Site, used_here
from tests.issuer import CID, document

#: Single calls before those that are timed.
WARM_UP = 200

#: Timed single calls for each credential in bulk; the peer's own proportion is 3,000 to 10,000.
SINGLE_SHARE = 0.3

#: Credentials in one bulk call.
PART = 1000

ONE, BULK, CPU = "enqueue one, p50 ms", "enqueue in bulk, a second", "enqueue in bulk, CPU s per 1,000"
ONE_ON_SQLITE = "enqueue one on SQLite, p50 ms"

Item = tuple[str, str, str]


def items(count: int) -> list[Item]:
    """What an issuer hands in for the credentials that `tests.benchmarks.intake.store` has stored."""
    return [(f"c{number}", document_hash(document(number)), CID) for number in range(count)]


def send_one_by_one(handed_in: list[Item]) -> list[float]:
    """A call for each; returns the milliseconds that each took."""
    from pipeline.client import write_to_blockchain_queued

    took = []
    for item in handed_in:
        begin = time.perf_counter()
        write_to_blockchain_queued(*item)
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
    handed_in = items(single + count)
    with (
        site.run(Configuration("intake"), len(handed_in), queued=False) as (variables, _),
        used_here(variables),
    ):
        took = send_one_by_one(handed_in[:single])[WARM_UP:]
        begin, cpu = time.perf_counter(), time.process_time()
        send_in_bulk(handed_in[single:])
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    on_sqlite = send_on_sqlite(site, handed_in[:single])[WARM_UP:]
    return {
        ONE: statistics.median(took),
        ONE_ON_SQLITE: statistics.median(on_sqlite),
        BULK: count / seconds,
        CPU: 1000 * cpu / count,
    }


def send_on_sqlite(site: Site, handed_in: list[Item]) -> list[float]:
    """The same single calls to a new SQLite file, as durable as it comes."""
    path = site.new_folder("sqlite") / "credentials.db"
    with used_here({"DATABASE_URL": f"sqlite:///{path}", "REDIS_URL": site.valkey.url}):
        for part in chunks(range(len(handed_in)), PART):
            credentials.store([CredentialRecord.of(f"c{number}", document(number)) for number in part])
        return send_one_by_one(handed_in)


def theirs(peer: Peer, _count: int) -> Figures:
    """Always 3,000 single calls, and 10,000 in bulk."""
    [row] = peer.rows("A")
    p50_ms = row["p50_ms"]
    return {ONE: p50_ms, ONE_ON_SQLITE: p50_ms, BULK: row["bulk_per_s"], CPU: row["bulk_cpu_s_per_1000"]}


INTAKE = Scenario(
    "intake",
    (Measure(ONE, False), Measure(ONE_ON_SQLITE, False), Measure(BULK, True), Measure(CPU, False)),
    ours,
    theirs,
)

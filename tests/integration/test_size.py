"""Promise: with a million rows a status takes 5 ms, counts 50 ms, a scrape 200 ms; nothing reads a big table.

On PostgreSQL; with ``--full-size`` a million writes, otherwise 50,000 and the same bounds: what an
index finds costs the same in both.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import pytest

from pipeline import merkle, status
from pipeline.dashboard.data import audit, credential, jobs
from pipeline.dashboard.data import batches as data_batches
from pipeline.dashboard.data import letters as data_letters
from pipeline.dashboard.data.search import search
from pipeline.dashboard.data.signer import signers
from pipeline.dashboard.data.why import pause
from pipeline.database import database
from pipeline.embedded.dashboard import DashboardServer
from pipeline.embedded.postgres import PostgresServer
from pipeline.ledger import (
    batches,
    counts,
    dead_letters,
    finality,
    history,
    joining,
    recovery,
    retention,
    trees,
    under_way,
    verification,
)
from pipeline.metrics import exposition
from pipeline.models import State, Tree, Write
from pipeline.settings import get_settings
from tests.browsing import Browser
from tests.databases import use_url
from tests.filling import Kind, fill, fill_kind
from tests.ledger import ACCOUNT, anchored, queue

pytestmark = pytest.mark.timeout(900)

#: How many writes there are of each of `tests.filling.KINDS`.
Made = dict[str, int]

#: One row by its primary key, through peewee.
ROW_MS = 0.6
#: What other tests may take of it; what scans a table takes more.
ALLOWANCE = 4
STATUS_MS = 5.0
SCRAPE_MS = 200.0
COUNTS_MS = 50.0
#: A page of 100 without what comes before it, and that for each 1,000 rows.
PAGE_MS = 50.0
PASSED_OVER_MS = 0.3
#: 5,000 rows that are sent again: 50 µs each.
CLAIM_MS = 600.0
#: A page of the dashboard, or a scrape of its metrics, over HTTP.
HTTP_MS = 200.0
PAGES = (
    "/", "/jobs", *(f"/jobs?state={state}" for state in status.LISTS), "/search?q=completed-1",
    "/search?q=" + "ab" * 32, "/credential?id=verified-7", "/batches", "/signer", "/dead-letters", "/audit",
    "/metrics", "/api/stats", "/api/history?hours=24",
)  # fmt: skip
#: A batch of 1,000 that a reorg takes away.
REORG_MS = 1000.0

#: With so many writes the plans are those of production.
FULL_ROWS = 500_000

#: A table with fewer rows may always be read as a whole.
SMALL_ROWS = 1000


@pytest.fixture(scope="module")
def template(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[tuple[str, Made]]:
    """The name of a database that is filled once and then copied, and what is in it."""
    name = f"size_{uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch:
        use_url(postgres_server.create_database(name), patch)
        made = fill(1_000_000 if request.config.getoption("--full-size") else 50_000)
        anchored(Write.get(Write.credential_id == "verified-1").batch_id)
        database.execute_sql("VACUUM ANALYZE")
        database.close_all()
    yield name, made
    postgres_server.drop_database(name)


@pytest.fixture
def filled(
    template: tuple[str, Made], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Made]:
    """How many writes there are of each kind; ``verified-0`` to ``-999`` are in one batch that is through."""
    name, made = f"test_{uuid4().hex}", template[1]
    use_url(postgres_server.create_database(name, template=template[0]), monkeypatch)
    status.tree_of.cache_clear()
    yield made
    database.close_all()
    postgres_server.drop_database(name)


@pytest.fixture
def milliseconds(full_size: bool) -> Callable[..., float]:
    """How long ``work(0)``, ``work(1)``, … take: the median, as is promised.

    Without ``--full-size`` other tests take the machine meanwhile: the quickest, in units of the
    quickest read of one row, which takes `ROW_MS` where nothing else runs.
    """

    def measure(work: Callable[[int], object], times: int = 50) -> float:
        rows, found = [], []
        for number in range(times):
            rows.append(seconds_of(lambda _: Write.get_by_id(1)))
            found.append(seconds_of(work, number))
        return median(found) * 1000 if full_size else min(found) / min(rows) * ROW_MS / ALLOWANCE

    return measure


def seconds_of(work: Callable[[int], object], number: int = 0) -> float:
    """How long ``work(number)`` takes."""
    begin = time.perf_counter()
    work(number)
    return time.perf_counter() - begin


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the server meanwhile."""
    seen: list[tuple[str, Any]] = []
    server, execute = database.obj, database.obj.execute_sql

    def record(sql: str, params: Any = None) -> Any:
        seen.append((sql, params))
        return execute(sql, params)

    server.execute_sql = record
    try:
        yield seen
    finally:
        del server.execute_sql


def scanned(work: Callable[[], object]) -> list[str]:
    """The big tables of which a statement of ``work`` reads every row; what it did is taken back."""
    with database.atomic() as transaction:
        with statements() as seen:
            work()
        if Write.select().count() < FULL_ROWS:  # so few may well be read as a whole, unless it is made dear
            database.execute_sql("SET LOCAL enable_seqscan = off")
        tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples < %s"
        small = {name for (name,) in database.execute_sql(tables, (SMALL_ROWS,)).fetchall()}
        plans = list(plans_of(seen))
        transaction.rollback()
    return [f"{node['Node Type']} on {node['Relation Name']}" for node in plans if reads_all(node, small)]


def plans_of(seen: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every node of the statements' plans."""
    for sql, params in seen:
        if not sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            continue
        (plan,) = database.execute_sql(f"EXPLAIN (FORMAT JSON) {sql}", params).fetchone()
        left = [found["Plan"] for found in json.loads(plan)]
        while left:
            node = left.pop()
            left += node.get("Plans", [])
            yield node


def reads_all(node: dict[str, Any], small: set[str]) -> bool:
    """A sequential scan, or the same by way of an index: in the order of the primary key."""
    if node.get("Relation Name") in {None, *small}:
        return False
    if node["Node Type"] == "Seq Scan":
        return True
    return "Index Cond" not in node and "pkey" in node.get("Index Name", "")


def test_status_and_counts(filled: Made, milliseconds: Callable[..., float]) -> None:
    """Of any state; of a completed one whose tree this process has not seen, in a batch of 1,000."""
    for kind in ("waiting", "delayed", "written", "failed", "single", "verified"):
        assert status.status_of_credential(f"{kind}-7")["credential_id"] == f"{kind}-7"
        taken = milliseconds(lambda number, kind=kind: status.status_of_credential(f"{kind}-{number * 11}"))
        assert taken <= STATUS_MS, kind
    found = status.status_of_credential("verified-7")["result"]
    assert found["batch_size"] == 1000
    assert len(found["merkle_proof"]) in (9, 10)
    assert status.tree_of.cache_info().currsize == 0
    assert scanned(lambda: status.status_of_credential("verified-7")) == []
    assert milliseconds(lambda _: status.counts()) <= COUNTS_MS
    assert status.counts() == {
        "waiting": filled["waiting"],
        "active": filled["written"] + filled["verified"] + filled["single-verified"] - 1000,
        "delayed": filled["delayed"],
        "completed": filled["single"] + filled["completed"] + 1000,
        "failed": filled["failed"],
    }


@pytest.mark.parametrize("kind", counts.STATUSES)
def test_first_and_last_page(filled: Made, milliseconds: Callable[..., float], kind: str) -> None:
    """The first costs the same for any number of rows; for the last the list's index is walked through."""
    count = status.counts()[kind]
    for start, bound in ((0, PAGE_MS), (count - 100, PAGE_MS + PASSED_OVER_MS * count / 1000)):
        assert len(status.jobs(kind, start, start + 100)) == 100
        page = partial(status.jobs, kind, start, start + 100)
        assert milliseconds(lambda _, page=page: page(), 5) <= bound
        assert scanned(page) == []


#: What runs every two seconds, in whichever process holds the lease.
SWEEPS: dict[str, Callable[[], object]] = {
    "next_ready": lambda: batches.next_ready(16, ACCOUNT.chain_id, ACCOUNT.signer),
    "watched": lambda: finality.watched(ACCOUNT.chain_id),
    "newest_final": lambda: finality.newest_final(ACCOUNT.chain_id, 1),
    "unsettled": lambda: under_way.unsettled(ACCOUNT.chain_id),
    "in_flight": lambda: under_way.in_flight(ACCOUNT.chain_id),
    "replayable": lambda: dead_letters.replayable_after_outage(500),
    "not_alerted": lambda: dead_letters.causes_not_alerted(created_before=time.time()),
    "lost writes": lambda: recovery.claim_writes("normal", sent_before=time.time()),
    "no lost writes": lambda: recovery.claim_writes("urgent", sent_before=0),
    "lost batches": lambda: recovery.claim_batches(recovery.WAITING, sent_before=time.time()),
    "no lost batches": lambda: recovery.claim_batches(recovery.WAITING, sent_before=0),
    "settled batches": lambda: recovery.claim_batches(recovery.SETTLED, sent_before=time.time()),
    "compact": counts.compact,
    "a minute's row": lambda: history.record(time.time()),
    "rates": history.rates,
    "purge": lambda: next(retention.purge_completed(finished_before=time.time(), keep_newest=0)),
    "purge failed": lambda: next(retention.purge_failed(finished_before=time.time())),
}


def test_no_sweep_reads_a_big_table(filled: Made, milliseconds: Callable[..., float]) -> None:
    """Each is led by an index to what it looks for; the next batch is the first in its index."""
    assert {name: found for name, work in SWEEPS.items() if (found := scanned(work))} == {}
    assert milliseconds(lambda _: SWEEPS["next_ready"]()) <= STATUS_MS
    with statements() as seen:
        SWEEPS["next_ready"]()
    assert not [node for node in plans_of(seen) if node["Node Type"] == "Sort"]


def second(page: Callable[..., Any], **only: Any) -> Callable[[], object]:
    """The page after the first, which is led by a key; the first one has none."""
    cursor = page(**only).next
    return lambda: page(after=cursor, **only)


def deep(page: Callable[..., Any], key: list[float]) -> Callable[[], object]:
    """A page from a key that has a great deal ahead of it."""
    cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
    return lambda: page(after=cursor)


def test_no_page_reads_a_big_table(filled: Made, milliseconds: Callable[..., float]) -> None:
    """What the dashboard shows is led by an index to its rows, the first page and one amid all the others."""
    last: Any = Write.select().order_by(Write.id.desc()).first()
    batch: Any = Write.get(Write.credential_id == "verified-1").batch
    middle: Any = Write.get(Write.credential_id == f"completed-{filled['completed'] // 2}")
    listed = {state: partial(jobs.page, state) for state in status.LISTS}
    first = [*listed.values(), data_letters.page, audit.page]
    pages: list[Callable[[], object]] = [
        *first,
        *(second(page) for page in (*listed.values(), data_batches.page)),
        deep(partial(jobs.page, None), [last.id // 2]),
        deep(listed["completed"], [middle.finished_at, middle.id]),
        second(data_letters.page, stage="chain_write", error="NodeUnreachable"),
        pause,
        signers,
        partial(data_batches.detail, batch.id),
        partial(credential.detail, "verified-7"),
        *(partial(search, name) for name in ("verified-7", "single-1", last.job_id, last.data_hash)),
        *(partial(search, name) for name in (batch.merkle_root, batch.transaction_hash, "none")),
    ]
    assert [found for page in pages if (found := scanned(page))] == []
    # the first pages have no key to be led by, and who counts the open letters has to read them
    unled = [partial(jobs.page, None), data_batches.page, data_letters.counts]
    for page in (*pages, *unled, partial(data_letters.page, stage="chain_write")):
        assert milliseconds(lambda _, page=page: page(), 5) <= PAGE_MS


def test_the_whole_pages(
    filled: Made,
    milliseconds: Callable[..., float],
    redis_url: str,
    worker_environment: Callable[..., dict[str, str]],
    new_directory: Callable[[str], Path],
) -> None:
    """As a browser gets them."""
    url = get_settings().database_url.get_secret_value()
    variables = worker_environment(database_url=url, redis_url=redis_url)
    with DashboardServer(new_directory("dashboard"), environment=variables) as server:
        browser = Browser(server.url)
        for path in (*PAGES, f"/batches/{Write.get(Write.credential_id == 'verified-1').batch_id}"):
            assert browser.get(path).status_code == 200, path
            taken = milliseconds(lambda _, path=path: browser.get(path), 5)
            assert taken <= HTTP_MS, f"{path}: {taken:.0f} ms"


def test_a_scrape(
    filled: Made, milliseconds: Callable[..., float], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that ``/metrics`` asks of SQL, and the rest of it."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    get_settings.cache_clear()
    assert scanned(lambda: exposition.render()) == []
    assert milliseconds(lambda _: exposition.render(), 10) <= SCRAPE_MS
    assert f'pipeline_jobs{{state="waiting"}} {filled["waiting"]}.0'.encode() in exposition.render()[0]


def test_lost_rows_are_sent_again(filled: Made, milliseconds: Callable[..., float]) -> None:
    """After a wipe of Redis 5,000 a sweep, the oldest message first; nearly nothing while none is lost."""
    now = time.time()
    assert milliseconds(lambda _: recovery.claim_writes("normal", sent_before=now), 1) <= CLAIM_MS
    left = Write.select().where(Write.sent_at < now, Write.credential_id.startswith("waiting-"))
    normal = left.where(Write.priority == "normal")
    assert normal.count() == filled["waiting"] * 9 // 10 - recovery.WRITES_PER_SWEEP
    assert normal.order_by(Write.sent_at).first().credential_id == "waiting-5556", "from where it ended"
    assert milliseconds(lambda _: recovery.claim_writes("normal", sent_before=0)) <= STATUS_MS


def test_every_chunk_of_a_purge_costs_the_same(filled: Made, full_size: bool) -> None:
    """However many went before, while an older snapshot keeps their index entries alive."""
    chunks = retention.purge_completed(finished_before=0, keep_newest=1000)
    with database.atomic():  # which is such a snapshot
        taken = [seconds_of(lambda _: next(chunks)) for _ in range(filled["completed"] // 500)]
        part = max(len(taken) // 5, 1)
        assert min(taken[-part:]) <= 2 * median(taken[:part]) * (1 if full_size else ALLOWANCE)
        assert len(list(chunks)) > 0, "those that are left"
        assert list(retention.purge_completed(finished_before=0, keep_newest=1000)) == []
        assert status.counts()["completed"] == 1000


def test_a_reorg_reads_its_batch_alone(filled: Made, milliseconds: Callable[..., float]) -> None:
    """Not what is pending besides, for each of its members."""
    batch = Write.get(Write.credential_id == "verified-1").batch
    place = finality.Place(batch.id, batch.block_number, batch.block_hash)
    assert milliseconds(lambda _: finality.unconfirm(place), 1) <= REORG_MS
    assert Write.select().where(Write.batch == batch.id, Write.state == State.VERIFIED).count() == 1000


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_proof_is_a_few_slices(ledger: str, milliseconds: Callable[..., float], full_size: bool) -> None:
    """Of 10,000 in one batch it costs no more than twice what a status costs besides."""
    fill_kind("large", Kind(1, "verified", batch_state="full", size=10_000), 10_000)
    batch = anchored(Write.get(Write.credential_id == "large-1").batch_id)
    queue(1, prefix="waiting-")
    database.execute_sql("ANALYZE")
    waiting = milliseconds(lambda _: status.status_of_credential("waiting-0"))
    assert milliseconds(
        lambda number: status.status_of_credential(f"large-{number * 190}")
    ) <= 3 * waiting * (1 if full_size else ALLOWANCE)
    assert status.tree_of.cache_info().currsize == 0
    assert len(Tree.get_by_id(batch.id).nodes) == 19_999 * merkle.NODE_BYTES


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_proofs_with_and_without_a_stored_tree(ledger: str, size: int) -> None:
    """They are the same, on both databases: what was closed before trees were stored has its proofs too."""
    ids = queue(size)
    verification.begin(ids)
    [batch_id] = joining.join(ids, [], lane="normal", max_size=size, linger_seconds=0)
    batch = anchored(batch_id)
    root = bytes.fromhex(batch.merkle_root[2:])
    leaves = [bytes(row.leaf) for row in Write.select(Write.leaf).where(Write.batch == batch.id)]
    status.tree_of.cache_clear()
    stored = [status.proof_of(batch, leaf) for leaf in leaves]
    assert status.tree_of.cache_info().currsize == 0
    assert all(merkle.verify(root, leaf, proof) for leaf, proof in zip(leaves, stored, strict=True))
    assert trees.load(batch.id).nodes == merkle.MerkleTree(leaves).nodes
    assert Tree.delete().execute() == (size > 1)
    assert [status.proof_of(batch, leaf) for leaf in leaves] == stored

"""For issuers' own tests: code that queues credentials, run without any server.

In ``conftest.py``, ``pytest_plugins = ["pipeline.testing"]`` (or import the fixture), and then::

    def test_a_diploma_is_anchored(blockchain_queue):
        graduate("Ada Lovelace")                   # code of yours, which calls issue(), .send(), …
        [job] = blockchain_queue.jobs()
        assert job["status"] == "waiting"          # it has been queued
        [job] = blockchain_queue.run()
        assert job["status"] == "completed"        # the real actors have worked it off

Messages wait in memory instead of Redis, rows are in an SQLite file of the test's own, and
there is no chain (mock mode) and no rate limit. All else is real: checks, de-duplication,
transactions, the hash of the document, batches, attempts, dead letters, status. Nothing else
in `pipeline` imports this or pytest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from queue import Empty
from time import time
from typing import Any
from urllib.parse import quote

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import Retry
from dramatiq.middleware import CurrentMessage
from dramatiq.results import ResultMissing, Results
from dramatiq.results.result import wrap_exception, wrap_result

from pipeline import chain_writing, current, messages, status
from pipeline import database as databases  # pytest looks into what it finds here, which would open it
from pipeline.actors import broker as pipeline_broker
from pipeline.actors import chain_write
from pipeline.attempts import at_batches
from pipeline.errors import NodeUnreachable, PipelineError
from pipeline.ledger import recovery
from pipeline.ledger.sql import rows
from pipeline.models import Batch, State, Write
from pipeline.queues import URGENT
from pipeline.ready import batches_ready
from pipeline.results import JobResults
from pipeline.settings import get_settings

__all__ = ["BlockchainQueue", "blockchain_queue"]


@pytest.fixture
def blockchain_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockchainQueue]:
    """The queue, empty, without servers; broker, database and settings are put back afterwards."""
    folder = tmp_path_factory.mktemp("blockchain_queue")
    with _settings(folder), _database(), _broker() as broker:
        yield BlockchainQueue(broker)


class BlockchainQueue:
    """What a test asks and tells the queue; a job is what `get_blockchain_write_status` returns."""

    def __init__(self, broker: StubBroker) -> None:
        self._broker = broker
        self._planned: list[_Failure] = []
        self._failing: dict[int, _Failure] = {}

    @property
    def database_url(self) -> str:
        """``sqlite:///…``, as in the environment: for code that opens ``credentials`` by itself."""
        return get_settings().database_url.get_secret_value()

    def jobs(self) -> list[dict[str, Any]]:
        """The status document of every job, in the order in which they were queued."""
        order = [job_id for (job_id,) in rows(Write.select(Write.job_id).order_by(Write.id))]
        found = {job["job_id"]: job for state in status.LISTS for job in status.jobs(state, 0, len(order))}
        return [found[job_id] for job_id in order if job_id in found]

    def run(self) -> list[dict[str, Any]]:
        """Work everything off, here and now, and return `jobs`: completed, or failed.

        Nothing sleeps: a delay or a backoff ends at once. While paused, what is left stays
        pending. An error that an actor does not turn into a failed attempt is raised.
        """
        self._work_off()
        while pending := _pending():
            _let_time_pass()
            _send_again()
            self._work_off()
            if _pending() == pending:
                break
        return self.jobs()

    def fail_next(self, error: PipelineError | None = None, *, attempts: int | None = None) -> None:
        """Let the next batch that is to be written fail with ``error`` (a node that does not answer).

        At its first ``attempts``; by default so often that it fails for good, with a dead letter.
        """
        error = error or NodeUnreachable("the node does not answer: fail_next()")
        self._planned.append(_Failure(error, attempts or get_settings().retry_max_attempts))

    def _work_off(self) -> None:
        while (message := self._next_message()) is not None:
            self._work(message)

    def _next_message(self) -> dramatiq.Message[Any] | None:
        for name in sorted(self._broker.queues, key=self._precedence):
            with suppress(Empty):
                return dramatiq.Message.decode(self._broker.queues[name].get_nowait())
        return None

    def _precedence(self, queue_name: str) -> tuple[bool, bool, int]:
        """As in a worker: urgent first, then by the actors' priority; what is delayed comes last."""
        priorities = [a.priority for a in self._broker.actors.values() if a.queue_name == queue_name]
        delayed = queue_name in self._broker.delay_queues
        return delayed, queue_name != URGENT, min(priorities, default=0)

    def _work(self, message: dramatiq.Message[Any]) -> None:
        actor = self._broker.get_actor(message.actor_name)
        proxy = MessageProxy(message)
        self._broker.emit_before("process_message", proxy)
        try:
            if message.actor_name == chain_write.actor_name and (self._planned or self._failing):
                self._write_or_fail()
            else:
                actor(*message.args, **message.kwargs)
        except Retry:
            pass  # its row says when the next attempt is due, and `run` sees to it
        finally:
            self._broker.emit_after("process_message", proxy)

    def _write_or_fail(self) -> None:
        while group := batches_ready(1):
            failure = self._failure_of(group[0].id)
            if failure is None:
                chain_writing.write_next(1)
                continue
            failure.attempts -= 1
            with suppress(Retry), at_batches(group, stage=chain_writing.STAGE):
                raise failure.error

    def _failure_of(self, batch_id: int) -> _Failure | None:
        if batch_id not in self._failing and self._planned:
            self._failing[batch_id] = self._planned.pop(0)
        failure = self._failing.get(batch_id)
        return failure if failure is not None and failure.attempts else None


class _ResultsInMemory(JobResults):
    """What ``message.get_result()`` asks. It never blocks: what is not there now, `run` has to bring."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Any] = {}

    def keep(self, values: Mapping[str, Any], *, ttl_ms: int) -> None:
        for job_id, value in values.items():
            failed = isinstance(value, Exception)
            self._kept[job_id] = wrap_exception(value) if failed else wrap_result(value)

    def get_result(
        self, message: dramatiq.Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Any:
        if message.message_id not in self._kept:
            raise ResultMissing(f"job {message.message_id} has not ended: call blockchain_queue.run() before")
        return self.unwrap_result(self._kept[message.message_id])  # type: ignore[no-untyped-call]

    def forget(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._kept.pop(job_id, None)

    def erase(self, job_ids: Iterable[str]) -> None:
        self.forget(job_ids)


@dataclass(slots=True)
class _Failure:
    error: PipelineError
    attempts: int


def _pending() -> Sequence[tuple[int, str, int]]:
    query = Write.select(Write.id, Write.state, Write.attempts).where(Write.state.in_(State.PENDING))
    return rows(query.order_by(Write.id))


@databases.transaction
def _let_time_pass() -> None:
    """Make due now what is due later."""
    now = time()
    for table in (Write, Batch):
        table.update(due_at=now).where(table.due_at > now).execute()


def _send_again() -> None:
    """What the `reconcile` sweep does: send for every row, whether or not its message was lost."""
    for priority in ("urgent", "normal"):
        messages.verify(recovery.claim_writes(priority, sent_before=inf), priority)
    for _, lane in recovery.claim_batches(recovery.WAITING, sent_before=inf):
        messages.write(lane)
    for batch_id, lane in recovery.claim_batches(recovery.SETTLED, sent_before=inf):
        messages.update(batch_id, lane)


@contextmanager
def _settings(folder: Path) -> Iterator[None]:
    """Settings without servers: those of the environment, but for three."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", f"sqlite:///{quote(str(folder / 'credentials.db'))}")
            patch.setenv("REDIS_URL", f"unix://{quote(str(folder / 'there-is-no-redis'))}")
            patch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
            get_settings.cache_clear()
            yield
    finally:
        get_settings.cache_clear()


@contextmanager
def _database() -> Iterator[None]:
    """The project's database is a new one; the one before, if it was open, stays so."""
    proxy = databases.database
    before = proxy.obj
    proxy.initialize(databases.open_database(get_settings().database_url.get_secret_value()))
    status.tree_of.cache_clear()  # batches are numbered from 1 again
    try:
        yield
    finally:
        proxy.close_all()
        proxy.initialize(before)
        status.tree_of.cache_clear()


@contextmanager
def _broker() -> Iterator[StubBroker]:
    """All actors send to a broker in memory; also those that a test declares meanwhile."""
    before, known = dramatiq.get_broker(), list(pipeline_broker.actors.values())
    stub = StubBroker(middleware=[CurrentMessage(), Results(backend=_ResultsInMemory())])
    stub.actor_options |= pipeline_broker.actor_options
    for queue_name in pipeline_broker.get_declared_queues():
        stub.declare_queue(queue_name)
    for actor in known:
        actor.broker = stub
        stub.declare_actor(actor)
    dramatiq.set_broker(stub)
    used_before = current.use(stub)
    try:
        yield stub
    finally:
        dramatiq.set_broker(before)
        current.use(used_before or pipeline_broker)
        for actor in known:
            actor.broker = pipeline_broker
        for actor in stub.actors.values():
            if actor.broker is stub:
                actor.broker = before
                before.declare_actor(actor)

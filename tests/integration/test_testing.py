"""`pipeline.testing`: an issuer's own tests run without any server, and leave nothing behind.

Each test here is a project as an issuer has one, on which a real pytest is started. Redis is
a port at which nobody listens, and a warning is an error.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLUGIN = 'pytest_plugins = ["pipeline.testing"]\n'

#: What an issuer has: code that queues, and never a thought for tests.
ISSUER = """
import dramatiq

from pipeline.actors import hash_verify
from pipeline.credentials import issue, sync
from pipeline.database import database
from pipeline.hashing import document_hash

DIPLOMA = {"name": "Ada Lovelace", "degree": "BSc"}
HASH = document_hash(DIPLOMA)


def graduate(name, **options):
    return issue(name, DIPLOMA, **options)


def graduate_all(names):
    return sync({"credential_id": name, "document": DIPLOMA} for name in names)


def anchor(name, data_hash=HASH, **options):
    return hash_verify.send_with_options(args=(name, data_hash), **options).message_id


def graduate_and_regret(name):
    with database.atomic() as transaction:
        issue(name, DIPLOMA)
        transaction.rollback()


greeted = []


@dramatiq.actor
def greet(name):
    greeted.append(name)


@dramatiq.actor
def stumble():
    raise LookupError("a step")
"""

Pytest = Callable[..., dict[str, int]]


@pytest.fixture
def run_pytest(tmp_path: Path, worker_environment: Callable[..., dict[str, str]]) -> Pytest:
    """Write the files of a project, run pytest in it; how many tests passed, failed, …

    Each keyword is a module's name and its content.
    """
    project = tmp_path / "project"
    project.mkdir()
    (project / "issuer.py").write_text(ISSUER)
    environment = worker_environment(
        redis_url="redis://127.0.0.1:9/0", database_url="sqlite:///issuers-own.db"
    )

    def run(*, options: tuple[str, ...] = (), **modules: str) -> dict[str, int]:
        for name, content in modules.items():
            (project / f"{name}.py").write_text(content)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-W",
            "error",
            "--rootdir",
            ".",
            "-c",
            "pytest.ini",
            *options,
        ]
        (project / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        counts = re.findall(r"(\d+) (passed|failed|errors?|skipped|warnings?)", done.stdout.splitlines()[-1])
        found = {what: int(number) for number, what in counts}
        assert set(found) <= {"passed", "failed"}, done.stdout + done.stderr
        if "failed" in found:
            print(done.stdout)
        return found

    return run


def test_an_issuers_suite(run_pytest: Pytest, tmp_path: Path) -> None:
    """Every way of queueing, every outcome, each test on a queue of its own; no other database is touched."""
    suite = """
import issuer
import pytest
from issuer import anchor, graduate, graduate_all, graduate_and_regret, greet, greeted, stumble
from dramatiq.results import ResultFailure, ResultMissing
from pipeline import client, deadletters
from pipeline.actors import hash_verify
from pipeline.errors import ConflictingWrite, InvalidDataHash, TransactionReverted, UnknownCredential
from pipeline.ledger import control


def states(queue):
    return [job["status"] for job in queue.jobs()]


@pytest.mark.parametrize("again", range(3))
def test_issue(blockchain_queue, again):
    job_id = graduate("d-1")
    assert graduate("d-1") == job_id
    assert states(blockchain_queue) == ["waiting"]
    [job] = blockchain_queue.run()
    assert (job["job_id"], job["status"], job["attempts"]) == (job_id, "completed", 1)
    assert job["result"]["mock"] is True
    assert job["result"]["merkle_root"] == job["result"]["leaf"]
    assert client.get_blockchain_write_status("d-1") == job
    assert blockchain_queue.run() == [job]


def test_sync(blockchain_queue):
    names = [f"d-{number}" for number in range(1200)]
    job_ids = graduate_all(names)
    done = blockchain_queue.run()
    assert [job["job_id"] for job in done] == job_ids
    assert {job["status"] for job in done} == {"completed"}
    assert 1 < len({job["result"]["merkle_root"] for job in done}) < 10
    assert client.get_job_counts()["completed"] == 1200


def test_send(blockchain_queue):
    graduate("d-1")
    blockchain_queue.run()
    assert anchor("d-1") == blockchain_queue.jobs()[0]["job_id"]
    with pytest.raises(UnknownCredential):
        anchor("nobody")
    with pytest.raises(InvalidDataHash):
        anchor("d-1", "ab")


def test_a_wrong_hash(blockchain_queue):
    graduate("d-1")
    with pytest.raises(ConflictingWrite):
        anchor("d-1", "ab" * 32)
    blockchain_queue.run()
    anchor("d-1", "ab" * 32)
    good, bad = blockchain_queue.run()
    assert (good["status"], bad["status"], bad["attempts"]) == ("completed", "failed", 1)
    assert bad["error"]["code"] == "HashMismatch"


def test_results(blockchain_queue):
    graduate_all(["d-1", "d-2"])
    blockchain_queue.run()
    issuer.database.execute_sql("UPDATE credentials SET document = NULL, data_hash = NULL")
    good, bad = (hash_verify.send(name, "cd" * 32) for name in ("d-1", "d-2"))
    with pytest.raises(ResultMissing):
        good.get_result(block=True, timeout=60_000)
    issuer.database.execute_sql("UPDATE credentials SET data_hash = ? WHERE id = 'd-2'", ("ef" * 32,))
    blockchain_queue.run()
    assert good.get_result() == client.get_blockchain_write_status("d-1")["result"]
    with pytest.raises(ResultFailure, match="HashMismatch"):
        bad.get_result(block=True)


def test_a_rollback(blockchain_queue):
    graduate_and_regret("d-1")
    assert blockchain_queue.run() == []


def test_in_a_transaction(blockchain_queue):
    with issuer.database.atomic():
        graduate("d-1")
    assert [job["status"] for job in blockchain_queue.run()] == ["completed"]


def test_urgent_goes_first(blockchain_queue):
    graduate("d-1")
    graduate("d-2", priority="urgent")
    first, second = blockchain_queue.run()
    assert first["updated_at"] >= second["updated_at"]
    assert second["priority"] == "urgent"


def test_a_delay_is_not_waited_for(blockchain_queue):
    graduate("d-1")
    blockchain_queue.run()
    issuer.database.execute_sql("UPDATE credentials SET document = ?", ('{"name":"Grace"}',))
    from pipeline.hashing import document_hash
    anchor("d-1", document_hash({"name": "Grace"}), delay=3_600_000)
    assert states(blockchain_queue) == ["completed", "delayed"]
    blockchain_queue.run()
    assert states(blockchain_queue) == ["completed", "completed"]


def test_pause(blockchain_queue):
    control.set_paused(True)
    graduate("d-1")
    [job] = blockchain_queue.run()
    assert (job["status"], job["reason"]) == ("active", "paused")
    control.set_paused(False)
    assert [job["status"] for job in blockchain_queue.run()] == ["completed"]


def test_fail_for_good(blockchain_queue):
    blockchain_queue.fail_next()
    graduate("d-1")
    [job] = blockchain_queue.run()
    assert (job["status"], job["attempts"], job["error"]["stage"]) == ("failed", 3, "chain_write")
    graduate("d-2")
    assert [job["status"] for job in blockchain_queue.run()] == ["failed", "completed"]
    assert deadletters.replay_all() == 1
    assert [job["status"] for job in blockchain_queue.run()] == ["completed", "completed"]


def test_fail_once(blockchain_queue):
    blockchain_queue.fail_next(attempts=1)
    graduate("d-1")
    [job] = blockchain_queue.run()
    assert (job["status"], job["attempts"]) == ("completed", 2)


def test_fail_with_an_error_of_its_own(blockchain_queue):
    blockchain_queue.fail_next(TransactionReverted("no issuer"))
    blockchain_queue.fail_next(attempts=2)
    graduate("d-1", priority="urgent")
    graduate("d-2")
    first, second = blockchain_queue.run()
    assert (first["status"], first["attempts"]) == ("failed", 1)
    assert first["error"]["code"] == "TransactionReverted"
    assert (second["status"], second["attempts"]) == ("completed", 3)


def test_own_actors(blockchain_queue):
    greeted.clear()
    greet.send_with_options(args=("Ada",), delay=3_600_000)
    greet.send("Grace")
    assert greeted == []
    blockchain_queue.run()
    assert greeted == ["Grace", "Ada"]
    stumble.send()
    with pytest.raises(LookupError, match="a step"):
        blockchain_queue.run()


def test_other_threads(blockchain_queue):
    from threading import Thread

    def work():
        graduate("d-1")
        issuer.database.close()

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert [job["status"] for job in blockchain_queue.run()] == ["completed"]


def test_own_connection(blockchain_queue):
    import os
    import sqlite3
    from contextlib import closing

    assert os.environ["DATABASE_URL"] == blockchain_queue.database_url
    with closing(sqlite3.connect(blockchain_queue.database_url.removeprefix("sqlite:///"))) as own, own:
        columns = "(id, metadata, created_at, updated_at)"
        own.execute(f"INSERT INTO credentials {columns} VALUES ('moved', '{{}}', '', '')")
    anchor("moved")
    [job] = blockchain_queue.run()
    assert job["result"]["document_checked"] is False


def test_shutdown(blockchain_queue):
    graduate("d-1")
    client.shutdown_blockchain_queue()
    assert [job["status"] for job in blockchain_queue.run()] == ["completed"]
"""
    assert run_pytest(conftest=PLUGIN, test_issuer=suite) == {"passed": 19}
    assert not list(tmp_path.rglob("issuers-own.db"))


def test_by_import(run_pytest: Pytest) -> None:
    """The fixture can be imported as well."""
    suite = """
from issuer import graduate
from pipeline.testing import BlockchainQueue, blockchain_queue


def test_issue(blockchain_queue: BlockchainQueue):
    graduate("d-1")
    assert [job["status"] for job in blockchain_queue.run()] == ["completed"]
"""
    assert run_pytest(test_issuer=suite) == {"passed": 1}


def test_everything_is_put_back(run_pytest: Pytest, tmp_path: Path) -> None:
    """Broker, actors (also one that was declared meanwhile), settings and the open database are as before."""
    suite = """
import dramatiq
from issuer import graduate
from pipeline import actors, client, database
from pipeline.settings import get_settings

late = []


def everything():
    brokers = {actor.actor_name: actor.broker for actor in actors.broker.actors.values()}
    return dramatiq.get_broker(), brokers, get_settings(), database.database.obj


def test_1_before():
    graduate("kept")          # Redis does not answer: it would go out later
    late.append(everything())


def test_2_with_the_queue(blockchain_queue):
    assert blockchain_queue.jobs() == []
    graduate("gone")

    @dramatiq.actor(periodic=None)
    def declared_late():
        late.append("ran")

    declared_late.send()
    blockchain_queue.run()
    assert late.pop() == "ran"


def test_3_after():
    before, now = late.pop(), everything()
    assert now[0] is before[0] is actors.broker
    assert now[1].pop("declared_late") is actors.broker
    assert now[1] == before[1]
    assert set(now[1].values()) == {actors.broker}
    assert now[2] == before[2]
    assert not now[2].blockchain_mock_enabled
    assert now[3] is before[3]
    assert [job["credential_id"] for job in client.get_waiting()] == ["kept"]
"""
    found = run_pytest(conftest=PLUGIN, test_order=suite, options=("-p", "no:randomly"))
    assert found == {"passed": 3}
    assert [path.parent.name for path in tmp_path.rglob("issuers-own.db")] == ["project"]


def test_a_failing_test_fails(run_pytest: Pytest) -> None:
    """The fixture hides nothing, and is put back after a failure too."""
    suite = """
from issuer import graduate


def test_1(blockchain_queue):
    graduate("d-1")
    assert blockchain_queue.jobs() == []


def test_2(blockchain_queue):
    assert blockchain_queue.jobs() == []
"""
    assert run_pytest(conftest=PLUGIN, test_issuer=suite) == {"passed": 1, "failed": 1}


def test_the_documentation(run_pytest: Pytest) -> None:
    """What docs/testing.md shows runs as it is shown."""
    text = (ROOT / "docs" / "testing.md").read_text()
    conftest, academy, suite = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert run_pytest(conftest=conftest, academy=academy, test_academy=suite) == {"passed": 2}


def test_production_needs_no_pytest(worker_environment: Callable[..., dict[str, str]]) -> None:
    """Nothing of the pipeline imports it, but for `pipeline.testing`."""
    modules = (
        "pipeline.actors, pipeline.client, pipeline.credentials, pipeline.deadletters, pipeline.cli.demo"
    )
    code = f"import sys, {modules}; assert not {{'pytest', 'pipeline.testing'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=worker_environment(), check=True, timeout=60)

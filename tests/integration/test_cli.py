"""Promise: exit codes and JSON of the command line are those of the interface; run as real processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline import status
from pipeline.embedded.workers import Workers
from pipeline.hashing import document_hash
from pipeline.ledger import batches, control, dead_letters, verification
from pipeline.ledger.confirmation import confirm
from pipeline.models import Credential, State, Write
from tests.issuer import chain_variables, document
from tests.ledger import confirmed, failed, queue, verified
from tests.servers.anvil import Anvil

Environment = Callable[..., dict[str, str]]


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite unless a test asks for more: one kind will do for what is said and how it ends."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[getattr(request, "param", "sqlite")]
    return str(request.getfixturevalue(fixture))


class Ended:
    """How a command ended."""

    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = run.returncode, run.stdout, run.stderr
        assert "Traceback" not in self.err, self.err

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The last line of standard error."""
        return self.err.strip().splitlines()[-1]


Run = Callable[..., Ended]


@pytest.fixture
def environment(
    client: Any, database_url: str, redis_url: str, worker_environment: Environment
) -> dict[str, str]:
    """The settings of this test's servers, in mock mode."""
    return worker_environment(database_url=database_url, redis_url=redis_url, blockchain_mock_enabled="true")


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a command to its end; keywords are variables in lower case, ``stdin`` is text."""

    def call(*arguments: object, stdin: str = "", **variables: object) -> Ended:
        command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
        changed = {name.upper(): str(value) for name, value in variables.items()}
        return Ended(
            subprocess.run(
                command,
                env=environment | changed,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
                check=False,
            )
        )

    return call


def line(number: int, **more: object) -> str:
    """A line of a JSONL file."""
    return json.dumps({"credential_id": f"c{number}", "document": document(number), **more}) + "\n"


def finish_all() -> None:
    """Take all that is queued to its end, without workers."""
    ids = [row[0] for row in Write.select(Write.id).where(Write.state == State.QUEUED).tuples()]
    verification.begin(ids)
    [batch_id] = verification.join(ids, [], lane="normal", max_size=len(ids), linger_seconds=0)
    assert batches.submit_mock(batch_id)
    assert confirm(batch_id)


def messages(redis_url: str, queue_name: str) -> list[dict[str, Any]]:
    """The messages in a queue of Dramatiq."""
    with redis.Redis.from_url(redis_url) as connection:
        return [json.loads(message) for message in connection.hvals(f"dramatiq:{queue_name}.msgs")]


# --- enqueue -----------------------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_enqueue(run: Run, tmp_path: Path, redis_url: str) -> None:
    """Lines from 1, blank ones skipped, each with its job; again: the same jobs, as duplicates."""
    file = tmp_path / "many.jsonl"
    extra = {
        "metadata": {"a": 1},
        "priority": "urgent",
        "data_hash": "0x" + document_hash(document(2)).upper(),
    }
    file.write_text(line(1) + "\n" + line(2, **extra) + line(1))
    ended = run("enqueue", file, "--json")
    assert ended.code == 0
    report = ended.json
    assert {key: report[key] for key in ("queued", "duplicates", "invalid")} == {
        "queued": 3,
        "duplicates": 1,
        "invalid": [],
    }
    assert [(job["line"], job["credential_id"]) for job in report["jobs"]] == [
        (1, "c1"),
        (3, "c2"),
        (4, "c1"),
    ]
    jobs = {write.credential_id: write.job_id for write in Write.select()}
    assert [job["job_id"] for job in report["jobs"]] == [jobs["c1"], jobs["c2"], jobs["c1"]]
    assert Write.get(Write.credential_id == "c2").priority == "urgent"
    assert json.loads(Credential.get_by_id("c2").metadata) == {"a": 1, "blockchain_status": "pending"}
    again = run("enqueue", file, "--json").json
    assert (again["queued"], again["duplicates"]) == (3, 3)
    assert again["jobs"] == report["jobs"]
    assert [len(messages(redis_url, name)) for name in ("hash_verify", "urgent")] == [1, 1]


def test_enqueue_in_chunks(run: Run, redis_url: str) -> None:
    """Not a message for each line; those that are anchored already count as queued too."""
    lines = "".join(line(number) for number in range(1200))
    assert run("enqueue", "-", stdin=lines).out == "1200 queued, 0 of them already known\n"
    assert sorted(len(message["args"][0]) for message in messages(redis_url, "hash_verify")) == [
        200,
        500,
        500,
    ]
    finish_all()
    again = run("enqueue", "-", "--json", stdin=lines).json
    assert (again["queued"], again["duplicates"]) == (1200, 1200)
    assert len(messages(redis_url, "hash_verify")) == 3


def test_enqueue_by_hash_alone(run: Run) -> None:
    """A line without a document is anchored by its hash; null is as good as left out."""
    lines = json.dumps({"credential_id": "old", "document": None, "data_hash": "AB" * 32}) + "\n"
    assert run("enqueue", "-", "--json", stdin=lines).json["queued"] == 1
    assert Write.get().data_hash == "ab" * 32
    assert Credential.get().document is None


BAD_LINES = [
    "no JSON\n",
    '["no object"]\n',
    '{"credential_id": "c", "document": {"a": NaN}}\n',
    '{"credential_id": "c", "document": {"a": 1, "a": 2}}\n',
    '{"credential_id": "c", "document": {"a": "\\ud800"}}\n',
    '{"credential_id": "c", "document": {"a": 9007199254740993}}\n',
    '{"credential_id": "c", "document": {"a": "\\u0000"}}\n',
    '{"credential_id": "", "document": {}}\n',
    '{"credential_id": "a\\nb", "document": {}}\n',
    '{"document": {}}\n',
    '{"credential_id": "c"}\n',
    '{"credential_id": "c", "document": {}, "data_hash": "12"}\n',
    '{"credential_id": "c", "document": {}, "ipfs_cid": "no CID"}\n',
    '{"credential_id": "c", "document": {}, "priority": "high"}\n',
    '{"credential_id": "c", "document": {}, "metadata": {"blockchain_status": "confirmed"}}\n',
    '{"credential_id": "c", "document": {}, "extra": 1}\n',
    line(9, data_hash="ab" * 32),
]


def test_enqueue_a_file_of_windows(run: Run, tmp_path: Path) -> None:
    """A byte order mark at its beginning says nothing."""
    file = tmp_path / "bom.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({"credential_id": "c1", "document": {}}).encode())
    assert run("enqueue", str(file), "--json").json["queued"] == 1


def test_enqueue_lists_all_invalid_lines(run: Run) -> None:
    """Exit 2, each with its number and what is wrong; nothing of the file is stored."""
    lines = line(1) + "".join(BAD_LINES) + line(2)
    ended = run("enqueue", "-", "--json", stdin=lines)
    assert ended.code == 2
    report = ended.json
    assert [fault["line"] for fault in report["invalid"]] == list(range(2, len(BAD_LINES) + 2))
    assert all(set(fault) == {"line", "credential_id", "error"} for fault in report["invalid"])
    assert all(fault["error"] for fault in report["invalid"])
    assert report["invalid"][-1]["credential_id"] == "c9"
    assert (report["queued"], report["jobs"]) == (0, [])
    assert Credential.select().count() == Write.select().count() == 0
    for fault in report["invalid"]:
        assert f"line {fault['line']}: {fault['error']}\n" in ended.err


def test_enqueue_skip_invalid(run: Run) -> None:
    """Exit 0, the others are queued, and the invalid ones are listed all the same."""
    lines = line(1) + BAD_LINES[0] + line(2)
    ended = run("enqueue", "-", "--skip-invalid", "--json", stdin=lines)
    assert ended.code == 0
    report = ended.json
    assert report["queued"] == 2
    assert [job["line"] for job in report["jobs"]] == [1, 3]
    assert [fault["line"] for fault in report["invalid"]] == [2]


def test_enqueue_contradictions(run: Run) -> None:
    """The same credential with two documents: the later line is invalid."""
    other = json.dumps({"credential_id": "c1", "document": document(2)}) + "\n"
    ended = run("enqueue", "-", "--json", stdin=line(1) + other)
    assert ended.code == 2
    assert [fault["line"] for fault in ended.json["invalid"]] == [2]
    assert Write.select().count() == 0


def test_enqueue_conflicts(run: Run) -> None:
    """A credential of which other content is pending: an invalid line, by its number; or skipped."""
    run("enqueue", "-", stdin=line(1))
    lines = line(2) + json.dumps({"credential_id": "c1", "document": document(7)}) + "\n"
    ended = run("enqueue", "-", "--json", stdin=lines)
    assert ended.code == 2
    [fault] = ended.json["invalid"]
    assert (fault["line"], fault["credential_id"]) == (2, "c1")
    assert Write.get().job_id in fault["error"]
    assert Write.select().count() == 1
    ended = run("enqueue", "-", "--json", "--skip-invalid", stdin=lines)
    assert (ended.code, ended.json["queued"]) == (0, 1)


def test_enqueue_nothing(run: Run) -> None:
    """An empty file is no error; a file that is not there is."""
    assert run("enqueue", "-", "--json").json == {"queued": 0, "duplicates": 0, "jobs": [], "invalid": []}
    ended = run("enqueue", "nowhere.jsonl", "--json")
    assert (ended.code, ended.out) == (2, "")
    assert "nowhere.jsonl" in ended.err


def test_enqueue_without_redis(run: Run) -> None:
    """What is stored goes out later."""
    ended = run("enqueue", "-", "--json", stdin=line(1), redis_url="redis://127.0.0.1:9/0")
    assert (ended.code, ended.json["queued"]) == (0, 1)
    assert Write.select().count() == 1


# --- looking -------------------------------------------------------------------------------------


def test_status(run: Run) -> None:
    """As the Python call; an unknown one is exit 1, and the message names it."""
    run("enqueue", "-", stdin=line(1))
    assert run("status", "c1", "--json").json == status.status_of_credential("c1")
    assert "status: waiting\n" in run("status", "c1").out
    ended = run("status", "nobody", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "'nobody'" in ended.complaint


def test_stats(run: Run) -> None:
    """The five counts as keys, and whether it is paused."""
    queue(2)
    verified()
    confirmed()
    failed()
    found = run("stats", "--json").json
    counts = {key: found[key] for key in ("waiting", "active", "delayed", "completed", "failed")}
    assert counts == {"waiting": 2, "active": 1, "delayed": 0, "completed": 1, "failed": 1}
    assert found["paused"] is False
    assert found["dead_letters"] == 1


def test_jobs(run: Run) -> None:
    """As the lists: oldest first, the end is exclusive."""
    queue(5)
    found = run("jobs", "--state", "waiting", "--start", 1, "--end", 3, "--json").json
    assert found == status.jobs("waiting", 1, 3)
    assert [job["credential_id"] for job in found] == ["c1", "c2"]
    assert run("jobs", "--state", "failed", "--json").json == []
    assert len(run("jobs", "--state", "waiting").out.splitlines()) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("jobs", "--state", "done"),
        ("jobs", "--state", "failed", "--start", "-1"),
        ("jobs", "--state", "failed", "--start", "3", "--end", "2"),
        ("status",),
        ("wait", "--timeout", "soon"),
        ("dead-letters", "replay"),
        ("dead-letters", "replay", "--all", "1"),
        ("dead-letters", "throw"),
        ("no-such-command",),
        ("enqueue", "-", "--no-such-option"),
    ],
    ids=" ".join,
)
def test_wrong_use(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit 2; nothing on standard output."""
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err


def test_wait(run: Run) -> None:
    """0 when all asked for are completed, 1 when one has failed or time is up."""
    assert run("wait", "--json").json == {"completed": 0, "failed": 0, "pending": 0}
    done = Write.get_by_id(confirmed().write_id).credential_id
    ended = run("wait", "--json")
    assert (ended.code, ended.json) == (0, {"completed": 1, "failed": 0, "pending": 0})
    [waiting] = [Write.get_by_id(write_id).credential_id for write_id in queue(1)]
    began = time.monotonic()
    ended = run("wait", "--timeout", "0.5", "--json")
    assert (ended.code, ended.json) == (1, {"completed": 1, "failed": 0, "pending": 1})
    assert 0.5 <= time.monotonic() - began < 10
    assert run("wait", done, "--json").code == 0
    assert run("wait", done, waiting, "--timeout", "0", "--json").json["pending"] == 1
    bad = Write.get_by_id(failed().write_id).credential_id
    ended = run("wait", bad, done, "--json")
    assert (ended.code, ended.json) == (1, {"completed": 1, "failed": 1, "pending": 0})
    assert run("wait", "nobody", "--json").code != 0


def test_wait_ends_when_they_end(run: Run, environment: dict[str, str]) -> None:
    """It looks again until the last one is through."""
    queue(3)
    command = [sys.executable, "-m", "pipeline.cli", "wait", "--timeout", "30", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        finish_all()
        out, _ = waiting.communicate(timeout=30)
    assert (waiting.returncode, json.loads(out)) == (0, {"completed": 3, "failed": 0, "pending": 0})


# --- dead letters --------------------------------------------------------------------------------

LETTER = {"id", "credential_id", "job_id", "stage", "error", "attempts", "permanent", "created_at"}


def test_dead_letters(run: Run, redis_url: str) -> None:
    """List, show by either id, replay one, replay all, discard: open ones only."""
    rows = [failed() for _ in range(4)]
    names = [Write.get_by_id(row.write_id).credential_id for row in rows]
    found = run("dead-letters", "list", "--json").json
    assert [letter["credential_id"] for letter in found] == names
    assert all(set(letter) >= LETTER for letter in found)
    assert (found[0]["stage"], found[0]["error"], found[0]["permanent"]) == (
        "chain_write",
        "NodeUnreachable",
        False,
    )
    by_id = run("dead-letters", "show", found[0]["id"], "--json").json
    assert by_id == run("dead-letters", "show", names[0], "--json").json
    assert set(by_id) >= LETTER
    assert run("dead-letters", "replay", names[0], "--json").json == {"replayed": 1}
    assert run("dead-letters", "discard", found[1]["id"], "--json").code == 0
    assert run("dead-letters", "discard", found[1]["id"], "--json").code == 1
    assert run("dead-letters", "replay", "--all", "--json").json == {"replayed": 2}
    assert run("dead-letters", "replay", "--all", "--json").json == {"replayed": 0}
    assert dead_letters.open_letters() == []
    states = [Write.get_by_id(row.write_id).state for row in rows]
    assert states == [State.QUEUED, State.FAILED, State.QUEUED, State.QUEUED]
    assert len(messages(redis_url, "hash_verify")) == 2


def test_replay_of_an_unknown_one_replays_none(run: Run) -> None:
    """Exit 1 names it; nothing half done."""
    rows = failed()
    name = Write.get_by_id(rows.write_id).credential_id
    ended = run("dead-letters", "replay", name, "nobody", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "'nobody'" in ended.complaint
    assert Write.get_by_id(rows.write_id).state == State.FAILED


# --- switches, retention ---------------------------------------------------------------------------


def test_pause_and_resume(run: Run) -> None:
    """Twice is as good as once; stats and the status tell."""
    rows = verified()
    for _ in range(2):
        assert run("pause", "--json").json == {"paused": True}
    assert control.is_paused()
    assert run("stats", "--json").json["paused"] is True
    assert run("status", Write.get_by_id(rows.write_id).credential_id, "--json").json["reason"] == "paused"
    assert run("enqueue", "-", stdin=line(1)).code == 0
    assert run("resume", "--json").json == {"paused": False}
    assert not control.is_paused()


def test_purge(run: Run) -> None:
    """Retention, now: how many were removed; what was can still be asked for."""
    rows = [confirmed() for _ in range(3)]
    bad = failed()
    for row in (*rows, bad):
        Write.update(finished_at=1.0).where(Write.id == row.write_id).execute()
    assert run("purge", "--json").json == {"completed_removed": 3, "failed_removed": 1}
    assert run("purge", "--json").json == {"completed_removed": 0, "failed_removed": 0}
    found = run("stats", "--json").json
    assert (found["completed"], found["failed"]) == (0, 0)
    name = Write.get_by_id(rows[0].write_id).credential_id
    assert run("status", name, "--json").json["result"]["merkle_root"].startswith("0x")


# --- proof, verify ---------------------------------------------------------------------------------


def test_proof(run: Run) -> None:
    """The receipt, with and without --json; exit 1 while it is not completed."""
    run("enqueue", "-", stdin=line(1))
    ended = run("proof", "c1")
    assert (ended.code, ended.out) == (1, "")
    finish_all()
    receipt = run("proof", "c1").json
    assert receipt == run("proof", "c1", "--json").json
    assert (receipt["type"], receipt["version"], receipt["mock"]) == ("credential-pipeline-receipt", 1, True)
    assert receipt["leaf_values"][0] == "c1"


@pytest.mark.parametrize("content", ["no JSON", '{"type": "credential-pipeline-receipt"}'])
def test_verify_no_receipt(run: Run, tmp_path: Path, content: str) -> None:
    """Exit 2."""
    (tmp_path / "receipt.json").write_text(content)
    assert run("verify", "receipt.json", "--json").code == 2


def test_verify_with_nothing_but_a_node(
    run: Run,
    tmp_path: Path,
    environment: dict[str, str],
    start_anvil: Callable[..., Anvil],
    start_workers: Callable[..., Workers],
    worker_environment: Environment,
) -> None:
    """Valid 0, wrong document 1, node down 3, and in each case what failed; no database is touched."""
    anvil = start_anvil()
    chain = {name.upper(): str(value) for name, value in chain_variables(anvil).items()}
    start_workers(environment=environment | chain | {"BLOCKCHAIN_MOCK_ENABLED": "false"})
    run("enqueue", "-", stdin=line(1))
    assert run("wait", "c1", "--timeout", "30").code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "receipt.json").write_text(run("proof", "c1").out)
    (tmp_path / "right.json").write_text(json.dumps(document(1)))
    (tmp_path / "wrong.json").write_text(json.dumps(document(2)))
    bare = worker_environment(blockchain_rpc_url=anvil.rpc_url)

    def verify(*files: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "pipeline.cli", "verify", *files, "--json"]
        done = subprocess.run(command, env=bare, capture_output=True, text=True, cwd=empty, check=False)
        return done.returncode, Ended(done).json

    code, found = verify("../receipt.json", "../right.json")
    assert (code, found["verdict"], found["step"]) == (0, "valid", None)
    code, found = verify("../receipt.json", "../wrong.json")
    assert (code, found["verdict"], found["step"]) == (1, "invalid", "document")
    anvil.kill()
    code, found = verify("../receipt.json")
    assert (code, found["verdict"], found["step"]) == (3, "unknown", "chain")
    assert found["reason"]
    assert list(empty.iterdir()) == []


# --- doctor, deploy, settings ----------------------------------------------------------------------


def test_doctor(run: Run) -> None:
    """Exit 0 and every check ok, in mock mode; exit 1 and which one is bad, with Redis down."""
    found = run("doctor", "--json")
    assert (found.code, found.json["ok"]) == (0, True)
    ended = run("doctor", "--json", redis_url="redis://:hidden@127.0.0.1:9/0")
    assert (ended.code, ended.json["ok"]) == (1, False)
    checks = {check["name"]: check for check in ended.json["checks"]}
    assert all(set(check) == {"name", "ok", "detail"} for check in checks.values())
    assert checks["redis"]["ok"] is False
    assert checks["database"]["ok"] is True
    assert "hidden" not in ended.out + ended.err
    assert "BAD  redis" in run("doctor", redis_url="redis://127.0.0.1:9/0").out


def test_doctor_shows_the_queue_at_a_glance(run: Run, redis_url: str) -> None:
    """Messages, lag, limiter, paused: what is under way, and for how long something has waited."""
    queue(1)
    Write.update(queued_at=Write.queued_at - 42).execute()
    run("pause")
    with redis.Redis.from_url(redis_url) as connection:
        connection.zadd("dramatiq:__heartbeats__", {"w1": (time.time() + 60) * 1000})
        connection.sadd("dramatiq:__acks__.w1.hash_verify", "m1")
        connection.hset(
            "dramatiq:hash_verify.msgs", "m1", f'{{"message_timestamp": {(time.time() - 71) * 1000}}}'
        )
        connection.sadd("dramatiq:__acks__.w1.hash_verify.DQ", "m2")
    found = {check["name"]: check["detail"] for check in run("doctor", "--json").json["checks"]}
    assert re.fullmatch(r"1 workers, 1 under way, the oldest for 7\d s", found["messages"])
    assert re.fullmatch(r"to be verified for 4\d s", found["lag"])
    assert found["limiter"] == "0 of 10 slots taken in the last 1 s"
    assert found["paused"].startswith("yes")


def test_doctor_finds_what_dead_workers_hold(run: Run, redis_url: str) -> None:
    """And nobody is there to take it up."""
    with redis.Redis.from_url(redis_url) as connection:
        connection.zadd("dramatiq:__heartbeats__", {"w1": 1.0})
        connection.sadd("dramatiq:__acks__.w1.hash_verify", "m1")
    ended = run("doctor", "--json")
    assert ended.code == 1
    [bad] = [check for check in ended.json["checks"] if not check["ok"]]
    assert bad["name"] == "messages"
    assert "1 of dead workers" in bad["detail"]


def test_doctor_with_everything_down(run: Run) -> None:
    """Each thing is named, and nothing hides another."""
    ended = run(
        "doctor",
        "--json",
        redis_url="redis://127.0.0.1:9/0",
        database_url="postgresql://app:hidden@127.0.0.1:9/none",
        blockchain_mock_enabled="false",
        blockchain_rpc_url="http://127.0.0.1:9/hidden",
    )
    assert ended.code == 1
    bad = {check["name"] for check in ended.json["checks"] if not check["ok"]}
    assert {"redis", "database"} <= bad
    assert "hidden" not in ended.out + ended.err


def test_doctor_finds_stuck_rows(run: Run) -> None:
    """Pending, and untouched for long."""
    queue(1)
    Write.update(updated_at=1.0).execute()
    ended = run("doctor", "--json")
    assert ended.code == 1
    assert [check["name"] for check in ended.json["checks"] if not check["ok"]] == ["stuck rows"]


def test_deploy_twice(run: Run, anvil: Anvil) -> None:
    """Two independent registries; no contract address is needed."""
    settings: dict[str, Any] = {
        "blockchain_mock_enabled": "false",
        "blockchain_rpc_url": anvil.rpc_url,
        "blockchain_private_key": anvil.accounts[0].private_key,
    }
    first, second = (run("deploy", "--json", **settings) for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert set(first.json) >= {"contract_address", "transaction_hash", "block_number", "chain_id", "issuer"}
    assert first.json["contract_address"] != second.json["contract_address"]
    assert first.json["chain_id"] == anvil.chain_id


def test_deploy_without_a_key(run: Run) -> None:
    """Exit 2, naming what is missing."""
    ended = run("deploy", "--json", blockchain_mock_enabled="false")
    assert (ended.code, ended.out) == (2, "")
    assert "BLOCKCHAIN_PRIVATE_KEY" in ended.complaint


@pytest.mark.parametrize(
    "command", [("stats",), ("status", "c1"), ("enqueue", "-"), ("doctor",), ("deploy",)]
)
def test_wrong_settings(run: Run, command: tuple[str, ...]) -> None:
    """One message names every wrong variable, and shows no value; exit 2."""
    wrong = {
        "redis_port": "hidden-1",
        "batch_max_size": "hidden-2",
        "database_url": "hidden-3://",
        "blockchain_mock_enabled": "hidden-4",
        "rate_limit_max": "0",
    }
    ended = run(*command, stdin=line(1), **wrong)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    for name in wrong:
        assert name.upper() in ended.err
    assert "hidden" not in ended.err


def test_help_needs_no_settings(run: Run) -> None:
    """Who asks how to use it may have set nothing up."""
    for command in ((), ("enqueue",), ("dead-letters", "replay")):
        ended = run(*command, "--help", redis_port="none")
        assert ended.code == 0
        assert "Usage" in ended.out


def test_database_down(run: Run) -> None:
    """Exit 1 with one line, no password, nothing on standard output."""
    for command in (("stats", "--json"), ("enqueue", "-")):
        ended = run(*command, stdin=line(1), database_url="postgresql://app:hidden@127.0.0.1:9/none")
        assert (ended.code, ended.out) == (1, "")
        assert ended.complaint.startswith("error: ")
        assert "hidden" not in ended.err

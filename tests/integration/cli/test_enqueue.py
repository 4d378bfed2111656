"""Promise: `enqueue` stores a whole file or nothing of it, and says of each line what became of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.hashing import document_hash
from pipeline.models import Credential, Write
from tests.command_line import Run, line
from tests.intake import messages
from tests.issuer import document
from tests.ledger import finish_all


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
    assert sorted(len(message["args"][0]) for message in messages(redis_url, "hash_verify")) == [200, 1000]
    finish_all()
    again = run("enqueue", "-", "--json", stdin=lines).json
    assert (again["queued"], again["duplicates"]) == (1200, 1200)
    assert len(messages(redis_url, "hash_verify")) == 2


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

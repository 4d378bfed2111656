"""Promise: what is wrong with servers, settings or arguments is named, each thing by itself and with no
secret in it, and the exit code is that of the interface."""

from __future__ import annotations

import re
import time

import pytest
import redis

from pipeline.models import Batch, Transaction, Write
from tests.command_line import Run, line
from tests.ledger import queue, queued, settled, verified, written


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
    assert re.fullmatch(r"1 workers, 1 under way, the oldest sent 7\d s ago", found["messages"])
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


def stuck(run: Run, **settings: str) -> str:
    """What doctor says of stuck rows."""
    [found] = [c for c in run("doctor", "--json", **settings).json["checks"] if c["name"] == "stuck rows"]
    assert found["ok"] == (found["detail"] == "none")
    return str(found["detail"])


def test_doctor_finds_stuck_rows(run: Run) -> None:
    """Due for long, and nothing moves: each stage by itself."""
    for bring in (queued, verified, settled):
        bring()
    assert stuck(run, blockchain_mock_enabled="false") == "none"
    Write.update(updated_at=1.0).execute()
    Batch.update(due_at=1.0, submitted_at=1.0, sent_at=1.0).execute()
    Transaction.update(created_at=1.0).execute()
    assert stuck(run, blockchain_mock_enabled="false") == (
        "for more than 600 s: 1 to be verified, 1 to be written, 1 to be confirmed"
    )
    assert run("doctor").code == 1


def test_doctor_finds_what_nobody_looks_at(run: Run) -> None:
    """Submitted, and no transaction of it can be mined."""
    written()
    Batch.update(submitted_at=1.0).execute()
    assert stuck(run, blockchain_mock_enabled="false") == "none"
    Transaction.update(lost_at=1.0).execute()
    assert stuck(run, blockchain_mock_enabled="false").endswith("1 submitted with nothing that can be mined")


def test_what_is_explained_is_not_stuck(run: Run, redis_url: str) -> None:
    """Delayed, paused, behind a backlog that moves, or among chain writes that go on."""
    waits, batch = queued(), verified()
    Write.update(updated_at=1.0).execute()
    Batch.update(due_at=1.0).execute()
    Write.update(due_at=time.time() + 60).where(Write.id == waits.write_id).execute()
    run("pause")
    assert stuck(run, blockchain_mock_enabled="false") == "none"
    run("resume")
    assert stuck(run, blockchain_mock_enabled="false").endswith("s: 1 to be written")
    Batch.update(due_at=time.time() - 1000).execute()
    assert stuck(run, blockchain_mock_enabled="false", rate_limit_window_seconds="3600") == "none"
    written()
    Write.update(updated_at=1.0, due_at=None).where(Write.id == waits.write_id).execute()
    assert stuck(run, blockchain_mock_enabled="false").endswith("s: 1 to be verified")
    with redis.Redis.from_url(redis_url) as connection:
        connection.rpush("dramatiq:hash_verify", *range(10))
    assert stuck(run, blockchain_mock_enabled="false") == "none"
    assert Batch.get_by_id(batch.batch_id).state == "full"


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

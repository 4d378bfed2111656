"""Promise: what an operator asks is answered as the Python calls answer it, and what is done twice is as good
as done once."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from pipeline import status
from pipeline.ledger import control, dead_letters
from pipeline.models import State, Write
from tests.command_line import Run, line
from tests.intake import messages
from tests.ledger import confirmed, failed, finish_all, queue, verified

# --- looking -----------------------------------------------------------------------------------


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


# --- dead letters ------------------------------------------------------------------------------

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


# --- switches, retention -----------------------------------------------------------------------


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

"""Promise: an erasure is one command, whose exit code says whether nothing is left to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Run, line
from tests.intake import fail
from tests.ledger import finish_all


def test_erase(run: Run) -> None:
    """Done, done already; afterwards there is no proof, and the status answers."""
    run("enqueue", "-", stdin=line(1))
    finish_all()
    assert run("status", "c1", "--json").json["result"]["leaf_salt"]
    for writes in (1, 0):
        ended = run("erase", "c1", "--json")
        assert (ended.code, ended.json) == (0, {"erased": True, "writes": writes})
    assert run("erase", "c1").out == "erased, 0 salts removed\n"
    ended = run("proof", "c1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith("error: CredentialErased: credential 'c1': it was erased")
    assert run("status", "c1", "--json").json["result"]["leaf_salt"] is None


def test_not_possible(run: Run) -> None:
    """Exit 1: pending, or unknown."""
    run("enqueue", "-", stdin=line(1))
    ended = run("erase", "c1", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "WritePending: credential 'c1'" in ended.complaint
    ended = run("erase", "nobody", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody" in ended.complaint


@pytest.mark.parametrize("arguments", [(), ("c1", "c2"), ("a\nb",)])
def test_wrong_use(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit 2: no id, two, or what can be none."""
    assert run("erase", *arguments, "--json").code == 2


def test_a_failed_one(run: Run) -> None:
    """Its dead letter is gone, and there is nothing to replay."""
    run("enqueue", "-", stdin=line(1))
    fail("c1")
    assert run("erase", "c1").code == 0
    assert run("dead-letters", "list", "--json").json == []
    assert run("dead-letters", "replay", "--all", "--json").json == {"replayed": 0}
    assert run("dead-letters", "replay", "c1", "--json").code == 1


def test_without_redis(run: Run, tmp_path: Path) -> None:
    """Exit 1, saying where a copy may be; the same again, with it, finishes it."""
    run("enqueue", "-", stdin=line(1))
    finish_all()
    ended = run("erase", "c1", redis_url=f"unix://{tmp_path}/none")
    assert ended.code == 1
    assert "ErasureIncomplete" in ended.complaint
    assert "Redis" in ended.complaint
    assert "once more" in ended.complaint
    assert run("erase", "c1", "--json").json == {"erased": True, "writes": 0}

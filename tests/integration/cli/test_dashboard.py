"""Promise: the dashboard listens only where it may, and its users are written down as secrets are."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from pipeline.dashboard.passwords import PasswordFile, change, line_of, parse, without_user
from pipeline.errors import InvalidInput, SettingsError
from tests.browsing import users_file
from tests.command_line import Run

PASSWORD = "correct horse battery staple"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Where the password file is to be."""
    return tmp_path / "users"


def test_a_user_is_set_changed_and_removed(run: Run, users: Path) -> None:
    """One line each, readable for the owner alone; no password in it nor in what is printed."""
    made = run(
        "dashboard-user", "ann", "--role", "operator", stdin=PASSWORD + "\n", dashboard_password_file=users
    )
    assert (made.code, made.out) == (0, "ann is operator\n")
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert run("dashboard-user", "bob", stdin=PASSWORD, dashboard_password_file=users).code == 0
    before = PasswordFile(users).users()
    assert {name: user.role for name, user in before.items()} == {"ann": "operator", "bob": "viewer"}
    assert PASSWORD not in users.read_text()
    assert run("dashboard-user", "ann", stdin=PASSWORD + "2", dashboard_password_file=users).code == 0
    after = PasswordFile(users).users()
    assert after["ann"].role == "viewer"
    assert after["bob"] == before["bob"]
    assert run("dashboard-user", "ann", "--remove", dashboard_password_file=users).code == 0
    assert set(PasswordFile(users).users()) == {"bob"}


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "short"), ("ann", ""), ("a:b", PASSWORD), ("", PASSWORD), ("é", PASSWORD)]
)
def test_what_is_no_user(name: str, password: str) -> None:
    """No line is made of it."""
    with pytest.raises(InvalidInput):
        line_of(name, "viewer", password)


def test_a_wrong_file_is_left_alone(run: Run, users: Path) -> None:
    """Exit 2: nothing is added to what is no password file, and what could be a hash is not shown."""
    users.touch(mode=0o600)
    users.write_text(text := "ann:viewer:$1$secret$hash\n")
    for command in (["dashboard-user", "bob"], ["dashboard", "--port", "0"]):
        ended = run(*command, stdin=PASSWORD, dashboard_password_file=users)
        assert (ended.code, users.read_text()) == (2, text)
        assert "DASHBOARD_PASSWORD_FILE: line 1" in ended.complaint
        assert "secret" not in ended.err


@pytest.mark.parametrize("text", ["ann\n", "ann:king:x\n", "\x00", "# nobody\nann:viewer:$argon2id$x"])
def test_lines_that_are_wrong(text: str) -> None:
    """The message names the line."""
    with pytest.raises(SettingsError, match=r"DASHBOARD_PASSWORD_FILE: line [12]"):
        parse(text)


def test_removing_nobody(tmp_path: Path) -> None:
    """An error, and not a success; nor is a file made for it."""
    with pytest.raises(InvalidInput):
        without_user("", "ann")
    with pytest.raises(SettingsError, match="No such file"):
        change(tmp_path / "none", lambda text: text)
    assert not (tmp_path / "none").exists()


def test_the_file_stays_the_same_one(tmp_path: Path) -> None:
    """A container has mounted it, not its name; a link leads to it."""
    path = users_file(tmp_path / "users", line_of("ann", "viewer", PASSWORD))
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.stat().st_ino
    change(link, lambda text: without_user(text, "ann"))
    assert (path.stat().st_ino, path.read_text(), link.is_symlink()) == (before, "", True)


def test_without_a_file(run: Run) -> None:
    """Exit 2, and the variable is named."""
    ended = run("dashboard-user", "ann", stdin=PASSWORD)
    assert (ended.code, "DASHBOARD_PASSWORD_FILE" in ended.complaint) == (2, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_elsewhere_a_password_file_is_needed(run: Run, host: str) -> None:
    """Exit 2 before anything listens."""
    ended = run("dashboard", "--host", host, "--port", "0")
    assert ended.code == 2
    assert "DASHBOARD_PASSWORD_FILE: is required" in ended.complaint


def test_a_port_that_is_taken(run: Run) -> None:
    """Exit 2, and it says which."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run("dashboard", "--port", taken.getsockname()[1])
    assert (ended.code, "--port" in ended.complaint) == (2, True)


def test_lines_that_are_none() -> None:
    """Blank ones and comments."""
    assert parse("\n# nobody yet\n\n") == {}

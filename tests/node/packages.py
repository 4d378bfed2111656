"""Fetch the npm packages of the tests: ``python -m tests.node.packages``.

``package-lock.json`` pins them and all that they need, each by its sha512, and names no host: the
registry is the one that npm is configured for. None of their scripts is run. The lock is made anew,
in this folder, by ``npm install --package-lock-only --omit-lockfile-registry-resolved``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers.anvil_binary import ROOT, npm_command

HERE = Path(__file__).parent
#: `run` fetches it again when it is missing or one of these files has changed.
FOLDER = ROOT / ".tools" / "node"
MANIFESTS = ("package.json", "package-lock.json")

OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")


class PackagesMissing(Exception):
    """The npm packages are not there, or not those that are pinned here."""


def folder() -> Path:
    """Where the fetched packages are. Raises `PackagesMissing` and says what to do."""
    packages = FOLDER / "node_modules"
    if not packages.is_dir():
        raise PackagesMissing(f"{packages} is missing: ./run test fetches it")
    return packages


def fetch() -> None:
    """Put the packages in their place, whole or not at all."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as scratch:
        new = Path(scratch) / "node"
        new.mkdir()
        for name in MANIFESTS:
            shutil.copy(HERE / name, new)
        _install(new, cache=Path(scratch) / "cache")
        shutil.rmtree(FOLDER, ignore_errors=True)
        new.rename(FOLDER)


def _install(target: Path, *, cache: Path) -> None:
    """``npm ci``: exactly what the lock says, or a failure, also where a hash is another one."""
    command = [*npm_command(), "ci", *OPTIONS, "--cache", cache]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True)
    if done.returncode:
        raise PackagesMissing(f"npm ci failed:\n{done.stderr}")


if __name__ == "__main__":
    try:
        fetch()
    except PackagesMissing as exc:
        sys.exit(f"npm packages: {exc}")

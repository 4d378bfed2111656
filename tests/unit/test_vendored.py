"""Promise: the pages' libraries are the pinned ones, unchanged, and are installed with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.node.packages import HERE, ROOT, folder

VENDOR = ROOT / "pipeline" / "dashboard" / "static" / "vendor"
VENDORED = sorted(path.name for path in VENDOR.iterdir() if path.is_dir())


@pytest.mark.parametrize("package", VENDORED)
def test_vendored_files_are_those_of_the_pinned_package(package: str) -> None:
    """Byte for byte, and with the licence."""
    published = folder() / package
    copies = sorted((VENDOR / package).iterdir())
    assert "LICENSE" in [copy.name for copy in copies]
    for copy in copies:
        source = published / ("" if copy.name == "LICENSE" else "dist") / copy.name
        assert copy.read_bytes() == source.read_bytes(), f"{copy} is not {source}"


@pytest.mark.parametrize("package", VENDORED)
def test_the_table_tells_version_licence_and_files(package: str) -> None:
    """What the README says of a package is what npm says."""
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    manifest = json.loads((folder() / package / "package.json").read_text())
    (row,) = [line for line in (VENDOR / "README.md").read_text().splitlines() if f"| [{package}](" in line]
    assert manifest["version"] == pinned[package]
    assert f"| {pinned[package]} | {manifest['license']} |" in row
    files = {copy.name for copy in (VENDOR / package).iterdir()} - {"LICENSE"}
    assert all(f"`{name}`" in row for name in files)


def test_the_wheel_has_every_file_of_the_package() -> None:
    """Pages, styles, scripts and schemas too, not only the modules."""
    wheel = {Path(file.path) for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    ours = {path for path in (ROOT / "pipeline").rglob("*") if path.is_file()}
    missing = {path for path in ours - wheel if path.parent.name != "__pycache__"}
    assert missing == set()
    assert VENDOR / "htmx.org" / "htmx.min.js" in wheel

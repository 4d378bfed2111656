"""The documents as tests read them: tables, code, and the commands that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli.commands import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]


def name_of(path: Path) -> str:
    """A page's path in the repository."""
    return str(path.relative_to(ROOT))


def tables(page: str, first_cell: str) -> list[list[str]]:
    """The rows of all tables whose header begins with ``first_cell``; each a list of cells."""
    rows, inside = [], False
    for line in page.splitlines():
        if line.startswith(f"| {first_cell} |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    assert rows, f"there is no table | {first_cell} |"
    return rows


def table(page: str, first_cell: str) -> list[list[str]]:
    """The rows of the first such table."""
    start = page.index(f"| {first_cell} |")
    return tables(page[start:].split("\n\n")[0], first_cell)


def spans(text: str) -> list[str]:
    """What is set as code within lines."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def blocks(page: str, *languages: str) -> Iterator[str]:
    """The code blocks in these languages, also those within a list."""
    for indent, language, text in re.findall(r"^( *)```(\w*)\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE):
        if language in languages:
            yield re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


def commands(group: click.Group = cli, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def options(command: click.Command) -> set[str]:
    """A command's options, without the one that nearly all have."""
    return {name for part in command.params if isinstance(part, click.Option) for name in part.opts} - {
        "--json"
    }


COMMANDS = dict(commands())

"""README and docs agree with the code, in both ways: names, shapes, links. See test_reference.py too."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import pipeline.actors
from pipeline import client, credentials, errors, status, testing
from pipeline.intake import OWN_METADATA_KEYS
from pipeline.models import Credential
from tests.pages import ALL_PAGES, COMMANDS, DOCS, PAGES, ROOT, blocks, name_of, options, spans, table

README, REFERENCE, FROM_BULLMQ = (
    path.read_text() for path in (PAGES[0], DOCS / "reference.md", DOCS / "how-to" / "move-from-bullmq.md")
)

blockchain_queue = testing.blockchain_queue


# --- commands --------------------------------------------------------------------------------------


def test_every_command_is_in_the_readme() -> None:
    """With its options, and none that there is not."""
    shown = {}
    for cell, _ in table(README, "`credential-pipeline …`"):
        for span in spans(cell):
            name = re.match(r"[a-z][a-z-]*(?: [a-z][a-z-]*)*", span)
            assert name, span
            shown[name[0]] = set(re.findall(r"--[a-z-]+", span))
    assert shown == {name: options(command) for name, command in COMMANDS.items()}


def test_every_command_has_its_shape_in_the_reference() -> None:
    """Those that know ``--json``; the README says which do not."""
    rows = table(REFERENCE, "command")
    shown = [span for cell, *_ in rows for span in spans(cell)]
    speaking = {
        name for name, command in COMMANDS.items() if any(p.name == "as_json" for p in command.params)
    }
    assert sorted(shown) == sorted(speaking)
    silent = re.search(r"With `--json` \(all but ([^)]+)\)", README)
    assert silent
    assert set(COMMANDS) - speaking == set(spans(silent[1]))


def test_commands_that_pages_call_exist() -> None:
    """Whatever comes after ``credential-pipeline`` in code."""
    called = set()
    for path in ALL_PAGES:
        called |= set(re.findall(r"credential-pipeline ([a-z][a-z-]*)", path.read_text()))
    assert called
    assert called <= {name.split()[0] for name in COMMANDS}


# --- Python ----------------------------------------------------------------------------------------


def test_what_pages_import_is_there() -> None:
    """Each ``from … import …`` and each dotted name of ours in a page can be resolved."""
    for path in ALL_PAGES:
        page = path.read_text()
        for block in blocks(page, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
                    for alias in node.names:
                        resolve(f"{node.module}.{alias.name}")
        for span in spans(page):
            for name in re.findall(r"(?<![\w/-])(?:pipeline|actors)(?:\.[a-z_]+)+(?![\w.]*json)", span):
                resolve(name)


def resolve(dotted: str) -> Any:
    """The module, or the thing in it. Raises when there is none."""
    module, _, name = dotted.rpartition(".")
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", [client, credentials], ids=lambda module: module.__name__)
def test_every_call_is_in_the_reference(module: Any) -> None:
    """With the names and defaults of its arguments where they are shown."""
    public = getattr(module, "__all__", ("issue", "sync"))
    section = REFERENCE.split(f"`{module.__name__}`:")[1]
    shown = [span for cell, _ in table(section, "call") for span in spans(cell)]
    assert {span.split("(")[0] for span in shown} == set(public)
    for span in shown:
        name, bracket, arguments = span.rstrip(")").partition("(")
        if bracket and "…" not in arguments:
            parameters = inspect.signature(getattr(module, name)).parameters
            assert re.findall(r"(\w+)(?:=|,|$)", re.sub(r"=[^,]+", "=", arguments)) == list(parameters), span


def test_every_error_that_pages_name_exists() -> None:
    """Names of classes are those of `pipeline.errors`, or Python's, Dramatiq's and the old service's."""
    others = {"TimeoutError", "ValueError", "ResultMissing", "CredentialRegistry"}
    others |= {span for cell, _ in table(FROM_BULLMQ, "there") for span in spans(cell)}
    for path in PAGES:
        named = {span for span in spans(path.read_text()) if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", span)}
        assert {name for name in named - others if not hasattr(errors, name)} == set(), name_of(path)


# --- shapes ----------------------------------------------------------------------------------------


def test_the_status_is_shown_with_all_its_keys(blockchain_queue: Any) -> None:
    """As a real one has them, and in that order."""
    [example] = (json.loads(block) for block in blocks(REFERENCE, "json"))
    credentials.issue("diploma-1", {"name": "Ada Lovelace", "degree": "BSc"})
    [real] = blockchain_queue.run()
    assert list(example) == list(real)
    assert list(example["result"]) == list(real["result"])
    assert list(example["error"]) == ["code", "message", "stage", "permanent"]
    assert all(f"`{state}`" in (ROOT / "docs" / "how-it-works.md").read_text() for state in status.LISTS)


def test_the_receipt_is_shown_with_all_its_keys() -> None:
    """Those that the schema requires."""
    schema = json.loads((ROOT / "pipeline" / "receipt.schema.json").read_text())
    shown = [span for cell, _ in table(REFERENCE.split("## Receipt")[1], "key") for span in spans(cell)]
    assert sorted(shown) == sorted(schema["required"])


def test_the_table_is_shown_with_all_its_columns() -> None:
    """And the keys in its metadata that are ours."""
    section = REFERENCE.split("## The table")[1].split("\n## ")[0]
    shown = [span for cell, _ in table(section, "column") for span in spans(cell)]
    assert shown == list(Credential._meta.columns)
    assert {span for span in spans(section) if span.startswith("blockchain_")} == OWN_METADATA_KEYS


def test_the_queues_are_named() -> None:
    """All that ``-Q`` takes."""
    assert set(spans(REFERENCE.split("## Queues")[1].split(": ", 1)[1])) == pipeline.actors.broker.queues


def test_every_actor_is_explained() -> None:
    """In the table of who does what, or beside another one."""
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    named = {span for row in table(page, "actor") for cell in row for span in spans(cell)}
    assert set(pipeline.actors.broker.actors) <= named


# --- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Files are there, and so are the headings that are linked to."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path.read_text())):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.is_file(), target
        assert not anchor or anchor in anchors(found), target


def without_blocks(page: str) -> str:
    """In code, brackets are no links, and a comment is no heading."""
    return re.sub(r"^ *```.*?^ *```", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links (GitHub's rule)."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

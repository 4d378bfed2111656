"""Promise: the reference has every setting, command, option and error of the code, as it is, and no other;
what the documents show in code could be typed; their diagrams and sums are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline import errors
from pipeline.cli.commands import cli
from pipeline.errors import PipelineError
from pipeline.models import State
from pipeline.settings import Settings
from tests.pages import ALL_PAGES, COMMANDS, DOCS, PAGES, blocks, name_of, spans, table, tables

SETTINGS, COMMAND_LINE, ERRORS = (
    (DOCS / "reference" / f"{name}.md").read_text() for name in ("settings", "commands", "errors")
)
#: Variables that others read: the scheduler's libc, compose.
NOT_SETTINGS = {"TZ", "PIPELINE_UID", "PIPELINE_GID", "POSTGRES_PASSWORD"}
IN_A_SHELL = ("sh", "bash")
#: What ends a command in a line of shell.
ENDS = {"|", "||", "&&", ";", "&", ">", "<"}


# --- settings --------------------------------------------------------------------------------------


def test_every_setting_is_shown_with_its_default() -> None:
    """No variable is missing or left over; an empty cell means that it is not set."""
    shown: dict[str, str | None] = {}
    for names, defaults, _ in table(SETTINGS, "variable"):
        variables, values = spans(names), spans(defaults)
        assert len(values) in (0, len(variables)), names
        shown |= dict(zip(variables, values or len(variables) * (None,), strict=True))
    plain = {name: _text(value) for name, value in Settings(_env_file=None).model_dump().items()}
    assert shown == {name.upper(): value for name, value in plain.items()}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return (
        f"{value:g}" if isinstance(value, float) else str(getattr(value, "get_secret_value", lambda: value)())
    )


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_page_names_a_setting_that_there_is_not(path: Path) -> None:
    """Whatever looks like a variable is one, or what a command calls its argument."""
    arguments = {(part.name or "").upper() for command in COMMANDS.values() for part in command.params}
    known = {name.upper() for name in Settings.model_fields} | NOT_SETTINGS | arguments
    assert set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", path.read_text())) <= known


# --- commands --------------------------------------------------------------------------------------


def test_every_command_is_shown_with_its_options() -> None:
    """With the arguments as the help has them, and with the defaults that hold."""
    shown: dict[str, dict[str, str]] = {}
    for usage, option, default, _ in table(COMMAND_LINE, "command"):
        usages = spans(usage) or [list(shown)[-1]]
        of_command = shown.setdefault(usages[0], {})
        of_command |= {name: " ".join(spans(default)) for name in spans(option)}
    assert shown == {_usage(name): _defaults(command) for name, command in COMMANDS.items()}


def _usage(name: str) -> str:
    arguments = [part for part in COMMANDS[name].params if isinstance(part, click.Argument)]
    with click.Context(COMMANDS[name]) as context:
        return " ".join([name, *(part.make_metavar(context) for part in arguments)])


def _defaults(command: click.Command) -> dict[str, str]:
    wanted = [part for part in command.params if isinstance(part, click.Option) and part.opts != ["--json"]]
    with click.Context(command) as context:
        return {name: _shown(part, part.get_default(context)) for part in wanted for name in part.opts}


def _shown(option: click.Option, default: Any) -> str:
    return str(default) if isinstance(default, str | int) and not option.is_flag else ""


def test_commands_without_json_are_named() -> None:
    """All others have it."""
    [row] = [row for row in table(COMMAND_LINE, "option") if "--json" in row[0]]
    speaking = {
        name for name, command in COMMANDS.items() if any(part.name == "as_json" for part in command.params)
    }
    assert set(spans(row[1])) == set(COMMANDS) - speaking


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_commands_in_code_can_be_typed(path: Path) -> None:
    """Each ``credential-pipeline …`` in a block of shell has a command, its options and its arguments."""
    for line in _shell_lines(path.read_text()):
        for words in _calls(line):
            _parse(cli, words)


def _shell_lines(page: str) -> list[str]:
    joined = "\n".join(blocks(page, *IN_A_SHELL)).replace("\\\n", " ")
    return [line for line in joined.splitlines() if "credential-pipeline " in line]


def _calls(line: str) -> list[list[str]]:
    """The words of each call in a line, up to what ends it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    open_call = False
    for word in lexer:
        if word in ENDS:
            open_call = False
        elif word == "credential-pipeline":
            found.append([])
            open_call = True
        elif open_call:
            found[-1].append(word)
    return found


def _parse(command: click.Command, words: list[str]) -> None:
    """Raises what click says of a command or option that there is not, or an argument that is missing."""
    with click.Context(command) as context:
        if isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, list(words))
            assert found is not None
            _parse(found, rest)
            return
        parser = command.make_parser(context)
        values, left, _ = parser.parse_args(list(words))
        assert not left, words
        for part in command.params:
            assert not (part.required and part.value_is_missing(values.get(part.name or ""))), words


def test_a_wrong_call_is_found() -> None:
    """The test above would not let a wrong option, command or argument pass."""
    for line in (
        "credential-pipeline jobs --sate x",
        "credential-pipeline enque f",
        "credential-pipeline status",
    ):
        [words] = _calls(line)
        with pytest.raises((click.UsageError, AssertionError)):
            _parse(cli, words)


def test_calls_are_found_within_a_line() -> None:
    """Behind a prompt's prefix, a pipe, and before a comment."""
    assert _calls("./run credential-pipeline status a | cat && credential-pipeline stats > s  # so") == [
        ["status", "a"],
        ["stats"],
    ]
    assert any(_shell_lines(path.read_text()) for path in ALL_PAGES)


# --- errors ----------------------------------------------------------------------------------------


def test_every_error_is_shown() -> None:
    """With whether it is permanent, what it means, and nearly always what to do."""
    shown = {row[0].strip("`"): row[1] for row in tables(ERRORS, "error")}
    classes = {
        name: thing
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, PipelineError)
    }
    assert shown == {name: "yes" if each.permanent else "no" for name, each in classes.items()}
    assert all(row[2] for row in tables(ERRORS, "error"))


def test_what_holds_is_told_so() -> None:
    """Those of the chain that stop all writing."""
    from pipeline.ledger.incidents import HOLDING

    told = {row[0].strip("`") for row in tables(ERRORS, "error") if "holds chain writing" in row[2]}
    assert told == set(HOLDING)


# --- diagrams and sums -----------------------------------------------------------------------------


def test_the_state_diagram_has_the_states() -> None:
    """All that a write can have, each reached and, but for the ends, left."""
    [diagram] = [
        block
        for path in PAGES
        for block in blocks(path.read_text(), "mermaid")
        if block.startswith("stateDiagram")
    ]
    edges = re.findall(r"^ +(\S+) --> (\S+?)(?::|$)", diagram, re.MULTILINE)
    states = {*State.PENDING, State.CONFIRMED, State.FAILED, "[*]"}
    assert {end for edge in edges for end in edge} == states
    assert {start for start, _ in edges} == states
    assert {end for _, end in edges} == states


def test_the_gas_of_a_credential_is_its_share() -> None:
    """What the table says of one, for each size of a batch."""
    page = (DOCS / "explanation" / "batches-and-cost.md").read_text()
    for row in table(page, "credentials in the batch"):
        size, total, share = (float(cell.replace(",", "")) for cell in row)
        assert share == pytest.approx(total / size, rel=1e-9), row

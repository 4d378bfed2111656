"""How commands speak: results on stdout, for people or as one JSON document; all else on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """``--json``."""
    return click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")(command)


def show(value: Any, *, as_json: bool, text: str | None = None) -> None:
    """Print ``value`` as JSON, or ``text``, or its keys and values a line each."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif text is not None:
        if text:
            click.echo(text)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            click.echo(f"{key}: {_plain(item)}")
    else:
        for item in value:
            click.echo(_plain(item))


def write(value: Any) -> None:
    """Print ``value`` as JSON on one line: what is long is for programs, and three times as fast so."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)

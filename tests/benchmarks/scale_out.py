"""How many credentials a second some worker processes do: ``python -m tests.benchmarks.scale_out``.

Starts PostgreSQL, Valkey, anvil and real Dramatiq workers of its own, and refuses to run where the
environment names other servers. `docs/explanation/scale-out.md` has its figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import machine
from tests.benchmarks.configuration import GROUPS, Configuration
from tests.benchmarks.measuring import Run, WrongResult, measure
from tests.benchmarks.site import ForeignServer, Site

#: With these one process is busy for five to ten seconds.
CREDENTIALS = 20_000

#: Runs of each configuration; one after the other, so that what the machine does besides hits all alike.
ROUNDS = 3

Results = dict[str, list[Run]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; the exit code: 2 for wrong use, 1 when a run did not end as it must."""
    options = _options(arguments)
    try:
        with Site() as site:
            report = _report(site, options)
    except ForeignServer as error:
        print(f"scale_out: {error}", file=sys.stderr)
        return 2
    except WrongResult as error:
        print(f"scale_out: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        _print(report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scale_out", description=__doc__)
    parser.add_argument("--credentials", type=_positive, default=CREDENTIALS, metavar="N")
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, metavar="N")
    parser.add_argument(
        "--group", action="append", choices=list(GROUPS), help="default: all; may be repeated"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="configurations with this text in the name"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args(arguments)
    options.groups = [_chosen(GROUPS[name], options.only) for name in options.group or GROUPS]
    if not any(options.groups):
        parser.error(f"no configuration has {options.only!r} in its name")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _chosen(group: Sequence[Configuration], text: str) -> list[Configuration]:
    return [configuration for configuration in group if text in configuration.name]


def _report(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    found = [
        entry
        for group in options.groups
        if group
        for entry in _measured(site, group, options.credentials, options.rounds)
    ]
    return {"machine": machine.described(site), "configurations": found}


def _measured(
    site: Site, group: Sequence[Configuration], credentials: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Measure a group, round by round. The first of it is what the others are compared with."""
    results: Results = {configuration.name: [] for configuration in group}
    for number in range(rounds):
        for configuration in group:
            run = measure(site, configuration, configuration.count(credentials))
            results[configuration.name].append(run)
            rate = f"{run.credentials_per_second:.4g} a second"
            print(f"round {number + 1}: {configuration.name}: {rate}", file=sys.stderr, flush=True)
    for configuration in group:
        yield _entry(configuration, credentials, results, first=results[group[0].name])


def _entry(
    configuration: Configuration, credentials: int, results: Results, *, first: list[Run]
) -> dict[str, Any]:
    runs = results[configuration.name]
    rates = [run.credentials_per_second for run in runs]
    return {
        **configuration.as_json(),
        "credentials": configuration.count(credentials),
        "credentials_per_second": _spread(rates),
        "times_the_first": _spread(
            [rate / one.credentials_per_second for rate, one in zip(rates, first, strict=True)]
        ),
        "runs": [run.as_json() for run in runs],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def _print(report: dict[str, Any]) -> None:
    table = Table(title=", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    for heading in (
        "configuration",
        "credentials/s",
        "times the first",
        "cores",
        "CPU s per 1,000",
        "batches",
    ):
        table.add_column(heading)
    for entry in report["configurations"]:
        table.add_row(*_cells(entry))
    Console(width=160).print(table)


def _cells(entry: dict[str, Any]) -> list[str]:
    middle = sorted(entry["runs"], key=lambda run: run["credentials_per_second"])[len(entry["runs"]) // 2]
    cpu = ", ".join(f"{name} {seconds:g}" for name, seconds in middle["cpu_seconds_per_1000"].items())
    spreads = [_text(entry[name]) for name in ("credentials_per_second", "times_the_first")]
    return [entry["name"], *spreads, f"{middle['cores_used']:.2f}", cpu, str(middle["batches"])]


def _text(spread: dict[str, float]) -> str:
    return f"{spread['median']:g} ({spread['min']:g}–{spread['max']:g})"


if __name__ == "__main__":
    sys.exit(main())

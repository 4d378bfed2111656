"""Credentials through real servers while faults come, then a look whether all that must hold does.

Starts PostgreSQL, Valkey, anvil, workers and a scheduler of its own. The same seed makes the same faults
at the same progress. Exit code: 0 all holds, 1 something does not, 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence

from tests.benchmarks.site import ADDRESSES, ForeignServer
from tests.benchmarks.usage import tree_cpu_seconds
from tests.chaos import report
from tests.chaos.faults import FAULTS
from tests.chaos.intake import Intake
from tests.chaos.invariants import breaches
from tests.chaos.running import SMALLEST_WINDOW, Breach, Run
from tests.chaos.schedule import plan
from tests.chaos.site import ChaosSite, chaos_site

LARGEST_SEED = 10**6


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one run; the exit code."""
    options = _options(arguments)
    if options.ignore_environment:
        for name in ADDRESSES:
            os.environ.pop(name, None)
    print(f"chaos: {_replay(options)}", flush=True)
    try:
        with chaos_site(foreign=options.ignore_environment) as site:
            return _one_run(site, options)
    except ForeignServer as error:
        print(f"chaos: {error}, or say --ignore-environment", file=sys.stderr)
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run chaos", description=__doc__)
    parser.add_argument("--seed", type=int, metavar="N", help="default: one by chance, which is printed")
    parser.add_argument("--credentials", type=_positive, default=5000, metavar="N")
    parser.add_argument("--faults", type=_not_negative, default=200, metavar="N")
    parser.add_argument(
        "--only", action="append", choices=list(FAULTS), default=[], metavar="FAULT", help="may be repeated"
    )
    parser.add_argument(
        "--ignore-environment", action="store_true", help="run though servers of others are named in it"
    )
    parser.add_argument("--timeline", action="store_true", help="print the faults also when all holds")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(LARGEST_SEED)
    return options


def _positive(text: str) -> int:
    number = _not_negative(text)
    if number < 1:
        raise ValueError
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _replay(options: argparse.Namespace) -> str:
    return report.replay(options.seed, options.credentials, options.faults, options.only)


def _one_run(site: ChaosSite, options: argparse.Namespace) -> int:
    intake = Intake(options.seed, options.credentials, max(SMALLEST_WINDOW, options.credentials // 10))
    schedule = plan(options.seed, options.credentials, options.faults, options.only or list(FAULTS))
    run = Run(site, intake, schedule)
    cpu_before = tree_cpu_seconds(os.getpid())
    try:
        found = _found(run)
    except BaseException:
        print("\n".join(report.timeline(run)), flush=True)
        raise
    seconds, cpu_seconds = time.monotonic() - run.begun, tree_cpu_seconds(os.getpid()) - cpu_before
    for line in report.summary(run, seconds, cpu_seconds):
        print(line)
    if found or options.timeline:
        print("\n".join(["", "faults, in order:", *report.timeline(run)]))
    if not found:
        return 0
    print("\n".join(["", *found]))
    print(f"seed {options.seed}; again: {_replay(options)}")
    return 1


def _found(run: Run) -> list[str]:
    """What does not hold."""
    stalled = []
    try:
        run.until_idle()
    except Breach as breach:
        stalled.append(str(breach))
    return [*stalled, *breaches(run)]


if __name__ == "__main__":
    sys.exit(main())

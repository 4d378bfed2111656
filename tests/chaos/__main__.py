"""Credentials through real servers while faults come, then a look whether all that must hold does.

Starts PostgreSQL, Valkey, anvil, workers and a scheduler of its own. The same seed makes the same faults
at the same progress. Exit code: 0 all holds, 1 something does not, 2 wrong use, 3 the run was none: a
server did not start, or what was to be broken was never of any effect.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence

from pipeline.embedded.server import ServerFailed
from pipeline.errors import SettingsError
from tests.benchmarks.site import ADDRESSES, ForeignServer
from tests.benchmarks.usage import tree_cpu_seconds
from tests.chaos import report
from tests.chaos.broken import BROKEN
from tests.chaos.faults import FAULTS
from tests.chaos.intake import Intake
from tests.chaos.invariants import breaches
from tests.chaos.running import SMALLEST_WINDOW, Breach, Run
from tests.chaos.schedule import plan
from tests.chaos.site import MASTERS, ChaosSite, chaos_site
from tests.commands import Parser, broken_off, ending_on_sigterm, not_negative, positive

LARGEST_SEED = 10**6


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one run; the exit code."""
    options = options_of(arguments)
    if options.ignore_environment:
        for name in [name for name in os.environ if name.upper() in ADDRESSES]:
            del os.environ[name]
    print(f"chaos: {_replay(options)}", flush=True)
    try:
        with (
            ending_on_sigterm(),
            chaos_site(options.broken, options.masters, foreign=options.ignore_environment) as site,
        ):
            return _code(site, options)
    except ForeignServer as error:
        print(f"chaos: {error}, or say --ignore-environment", file=sys.stderr)
        return 2
    except ServerFailed as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 3
    except SettingsError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return broken_off("chaos")


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends this process with 2 and one line for wrong ones."""
    parser = Parser(prog="./run chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=not_negative, metavar="N", help="default: one by chance, which is printed"
    )
    for name, default, type_ in (("credentials", 5000, positive), ("faults", 200, not_negative)):
        parser.add_argument(f"--{name}", type=type_, default=default, metavar="N", help=f"default: {default}")
    parser.add_argument(
        "--only", action="append", choices=list(FAULTS), default=[], metavar="FAULT", help="may be repeated"
    )
    parser.add_argument(
        "--ignore-environment", action="store_true", help="run though servers of others are named in it"
    )
    parser.add_argument(
        "--broken", choices=list(BROKEN), help="take this out of the workers: the run has to fail then"
    )
    parser.add_argument(
        "--masters",
        type=positive,
        default=MASTERS,
        metavar="N",
        help=f"groups of workers; default: {MASTERS}",
    )
    parser.add_argument("--timeline", action="store_true", help="print the faults also when all holds")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(LARGEST_SEED)
    return options


def _replay(options: argparse.Namespace) -> str:
    """The command that makes the same faults at the same progress."""
    more = [f"--only '{kind}'" for kind in options.only]
    more += [f"--broken {options.broken}"] if options.broken else []
    more += [f"--masters {options.masters}"] if options.masters != MASTERS else []
    run = f"./run chaos --seed {options.seed} --credentials {options.credentials} --faults {options.faults}"
    return " ".join([run, *more])


def one_run(site: ChaosSite, options: argparse.Namespace) -> tuple[Run, list[str]]:
    """Make the run, tell what came of it, and return it with what does not hold."""
    intake = Intake(options.seed, options.credentials, max(SMALLEST_WINDOW, options.credentials // 10))
    schedule = plan(options.seed, options.credentials, options.faults, options.only or list(FAULTS))
    run = Run(site, intake, schedule, broken=options.broken is not None)
    cpu_before = tree_cpu_seconds(os.getpid())
    try:
        found = _found(run)
    except BaseException:
        print("\n".join(report.timeline(run)), flush=True)
        raise
    seconds, cpu_seconds = time.monotonic() - run.begun, tree_cpu_seconds(os.getpid()) - cpu_before
    print("\n".join(report.summary(run, seconds, cpu_seconds)))
    if found or options.timeline:
        print("\n".join(["", "faults, in order:", *report.timeline(run)]))
    if found:
        print("\n".join(["", *found, f"seed {options.seed}; again: {_replay(options)}"]))
    return run, found


def _found(run: Run) -> list[str]:
    """What does not hold."""
    stalled = []
    try:
        run.until_idle()
    except Breach as breach:
        stalled.append(str(breach))
    run.site.proxy.end_faults()  # those that nobody has met
    return [*stalled, *breaches(run)]


def _code(site: ChaosSite, options: argparse.Namespace) -> int:
    _, found = one_run(site, options)
    if options.broken and not (found and (site.orders / options.broken).exists()):
        print(f"chaos: {options.broken} was not of any effect: nothing is shown", file=sys.stderr)
        return 3
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

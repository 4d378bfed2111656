"""How fast it is, beside what a user would pick instead: ``./run bench --peer FOLDER``.

Starts servers and workers of its own, for the peer too, and refuses to run where environment or .env
name other servers. A peer is a folder with a ``bench.mjs``; without one only ours are measured.
Exit codes: 0 measured, 1 broken off (or, with --check, something not reached), 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from tests.benchmarks import machine, table
from tests.benchmarks.comparing import compared
from tests.benchmarks.measuring import WrongResult
from tests.benchmarks.peer import PROGRAM, Peer, PeerFailed
from tests.benchmarks.roster import SCENARIOS
from tests.benchmarks.site import ForeignServer, Site
from tests.commands import Parser, broken_off, ending_on_sigterm, positive

CREDENTIALS = 10_000

#: Without a peer, about ten minutes; with one, enough for a spread.
ROUNDS, ROUNDS_WITH_PEER = 1, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, or show what was measured before; the exit code."""
    options = _options(arguments)
    try:
        with ending_on_sigterm():
            report = table.together(options.shown) if options.shown else _report(options)
    except (table.Different, SettingsError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except ForeignServer as error:
        print(f"bench: {error}, and ignores these with --ignore-environment", file=sys.stderr)
        return 2
    except (PeerFailed, WrongResult) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return broken_off("bench")
    _print(report, options)
    return 1 if options.check and table.missed(report) else 0


def _report(options: argparse.Namespace) -> dict[str, Any]:
    chosen = [one for name in options.scenario or SCENARIOS for one in SCENARIOS[name]]
    rounds = options.rounds or (ROUNDS_WITH_PEER if options.peer else ROUNDS)
    with ExitStack() as stack:
        servers = Site(tcp=True, foreign=options.ignore_environment)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cp-peer-")))
        scratch.chmod(0o711)  # PostgreSQL may run as another user
        peer = stack.enter_context(Peer(options.peer, scratch)) if options.peer else None
        site = stack.enter_context(servers)
        rows = compared(site, peer, chosen, options.credentials, rounds)
        described = machine.described(site, peer) | {"credentials": options.credentials, "rounds": rounds}
        return {"machine": described, "rows": rows}


def _print(report: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
    elif options.markdown:
        print(table.markdown(report), end="")
    else:
        table.show(report)
    for row in table.missed(report):
        print(f"bench: not reached: {row['what']}: {row['to_reach']}", file=sys.stderr)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="./run bench", description=__doc__)
    parser.add_argument("--peer", type=_peer, metavar="FOLDER", help="what to measure in turns with ours")
    parser.add_argument(
        "--credentials", type=positive, default=CREDENTIALS, metavar="N", help=f"default: {CREDENTIALS}"
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help=f"default: {ROUNDS}, with a peer {ROUNDS_WITH_PEER}",
    )
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="default: all; may be repeated"
    )
    parser.add_argument(
        "--ignore-environment",
        action="store_true",
        help="run although environment or .env name servers; they are left alone",
    )
    parser.add_argument(
        "--from",
        dest="shown",
        action="append",
        type=_report_in,
        metavar="FILE",
        help="measure nothing: show what --json has printed; may be repeated, for a table of several runs",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    shape.add_argument("--markdown", action="store_true", help="the table for the docs")
    parser.add_argument("--check", action="store_true", help="exit code 1 when something is not reached")
    options = parser.parse_args(arguments)
    measures = [f"--{name}" for name in ("peer", "rounds", "scenario") if getattr(options, name)]
    if options.shown and measures:
        parser.error(f"argument --from: measures nothing, so not with {', '.join(measures)}")
    return options


def _peer(text: str) -> Path:
    folder = Path(text).absolute()
    if not (folder / PROGRAM).is_file():
        raise argparse.ArgumentTypeError(f"{text} has no {PROGRAM}")
    return folder


def _report_in(text: str) -> dict[str, Any]:
    """What was measured before."""
    try:
        report = json.loads(Path(text).read_text())
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError(f"{text} is no file with JSON in it") from None
    if not table.is_report(report):
        raise argparse.ArgumentTypeError(f"{text} is not what --json has printed")
    return report


if __name__ == "__main__":
    sys.exit(main())

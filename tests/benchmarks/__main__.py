"""How fast it is, beside what a user would pick instead: ``./run bench --peer FOLDER``.

Starts servers and workers of its own, for the peer too, and refuses to run where the environment
names other servers. A peer is a folder with a ``bench.mjs``; without one only ours are measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.comparing import compared, show
from tests.benchmarks.measuring import WrongResult
from tests.benchmarks.peer import Peer, PeerFailed
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.drain import CHAIN_DRAINS, MOCK_DRAINS
from tests.benchmarks.scenarios.intake import INTAKE
from tests.benchmarks.scenarios.latency import LATENCY
from tests.benchmarks.scenarios.limiter import LIMITER
from tests.benchmarks.scenarios.memory import MEMORY
from tests.benchmarks.site import ForeignServer, Site

SCENARIOS: dict[str, list[Scenario]] = {
    "intake": [INTAKE],
    "drain": MOCK_DRAINS,
    "chain": CHAIN_DRAINS,
    "latency": [LATENCY],
    "limiter": [LIMITER],
    "memory": [MEMORY],
}

CREDENTIALS = 10_000
ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; the exit code: 2 for wrong use, 1 when a side did not end as it must."""
    options = _options(arguments)
    try:
        report = _report(options)
    except ForeignServer as error:
        print(f"bench: {error}, and ignores these with --ignore-environment", file=sys.stderr)
        return 2
    except (PeerFailed, WrongResult) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        show(report["machine"], report["rows"])
    return 0


def _report(options: argparse.Namespace) -> dict[str, Any]:
    chosen = [one for name in options.scenario or SCENARIOS for one in SCENARIOS[name]]
    servers = Site(tcp=True, foreign=options.ignore_environment)
    with tempfile.TemporaryDirectory(prefix="cp-peer-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o711)  # PostgreSQL may run as another user
        peer = Peer(options.peer, scratch) if options.peer else None
        if peer:
            peer.prepare()
        with servers as site:
            rows = compared(site, peer, chosen, options.credentials, options.rounds)
            return {"machine": machine.described(site), "rows": rows}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--peer", type=_folder, metavar="FOLDER", help="what to measure in turns with ours")
    parser.add_argument("--credentials", type=_positive, default=CREDENTIALS, metavar="N")
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, metavar="N")
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="default: all; may be repeated"
    )
    parser.add_argument(
        "--ignore-environment",
        action="store_true",
        help="run although the environment names servers; they are left alone",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _folder(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())

"""``demo`` and ``up``: everything on this machine, from packages, owned by this process."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from pipeline.chain.client import ChainClient
from pipeline.embedded.dashboard import DashboardServer
from pipeline.embedded.evm import EvmServer
from pipeline.embedded.server import free_port, is_free
from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Scheduler, Workers
from pipeline.settings import Settings, get_settings

#: Where `up` has the dashboard, as the command itself does.
DASHBOARD_PORT = 8000

#: The longest that the demo waits, seconds, beside a second for every hundred credentials.
PATIENCE_SECONDS = 60.0


def run_demo(credentials: int) -> int:
    """Anchor ``credentials``, verify a proof; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="cp-") as folder, _embedded(Path(folder)) as (_, dashboard):
        from pipeline import client
        from pipeline.credentials import sync

        _say(f"the dashboard is at {dashboard.url} while this runs")
        sync(_document(number) for number in range(credentials))
        confirmed = _watch(credentials)
        click.echo(f"{confirmed} of {credentials} confirmed")
        verdict = _verify_one() if confirmed else "unknown"
        client.shutdown_blockchain_queue()
    return 0 if confirmed == credentials and verdict == "valid" else 1


def _leave(number: int, _frame: object) -> None:
    """End as on Ctrl-C: servers are stopped and the folder is removed."""
    sys.exit(128 + number)


def run_up() -> None:
    """Run until SIGINT or SIGTERM; data is kept in ``.credential-pipeline``."""
    with ExitStack() as stack:
        folder = Path(".credential-pipeline").absolute()
        variables, dashboard = stack.enter_context(_embedded(folder))
        click.echo(f"Ready. The dashboard: {dashboard.url}\n\nIn another terminal:\n")
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo("\nCtrl-C stops everything.")
        done = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        done.wait()


@contextmanager
def _embedded(folder: Path) -> Iterator[tuple[dict[str, str], DashboardServer]]:
    """Servers, workers, scheduler, dashboard; yields the settings, which are this process's too."""
    with ExitStack() as stack:
        _say("starting Valkey and an EVM node")
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cp-")))
        valkey = stack.enter_context(ValkeyServer(_short(folder / "valkey", sockets)))
        node = stack.enter_context(EvmServer(folder / "evm"))
        variables = _variables(folder, valkey, node)
        os.environ.update(variables)
        get_settings.cache_clear()
        variables["BLOCKCHAIN_CONTRACT_ADDRESS"] = _registry(folder)
        os.environ.update(variables)
        get_settings.cache_clear()
        _say("starting workers, scheduler and dashboard")
        environment = dict(os.environ)
        stack.enter_context(Workers(folder / "workers", environment=environment))
        stack.enter_context(Scheduler(folder / "scheduler", environment=environment))
        yield variables, stack.enter_context(_dashboard(folder))


def _dashboard(folder: Path) -> DashboardServer:
    """At its usual port, or at another one where that is taken."""
    port = DASHBOARD_PORT if is_free(DASHBOARD_PORT) else free_port()
    return DashboardServer(folder / "dashboard", environment=dict(os.environ), port=port)


def _short(wanted: Path, sockets: Path) -> Path:
    """``wanted``, by a path that is short enough for a Unix socket (107 bytes)."""
    wanted.mkdir(parents=True, exist_ok=True)
    link = sockets / "valkey"
    link.symlink_to(wanted, target_is_directory=True)
    return link


def _variables(folder: Path, valkey: ValkeyServer, node: EvmServer) -> dict[str, str]:
    return {
        "REDIS_URL": valkey.url,
        "DATABASE_URL": f"sqlite:///{folder / 'credentials.db'}",
        "BLOCKCHAIN_RPC_URL": node.rpc_url,
        "BLOCKCHAIN_CHAIN_ID": str(node.chain_id),
        "BLOCKCHAIN_PRIVATE_KEY": node.private_key,
    }


def _registry(folder: Path) -> str:
    """The registry of an earlier start, or a new one."""
    noted = folder / "contract-address"
    if noted.is_file():
        return noted.read_text().strip()
    _say("deploying a CredentialRegistry")
    address = ChainClient.from_settings(Settings()).deploy().contract_address
    noted.write_text(address + "\n")
    return address


def _watch(total: int) -> int:
    """Show progress until nothing is pending; how many are confirmed."""
    from pipeline import status

    deadline = time.monotonic() + PATIENCE_SECONDS + total / 100
    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("confirmed", total=total)
        while True:
            counts = status.counts()
            progress.update(bar, completed=counts["completed"])
            if counts["completed"] + counts["failed"] >= total or time.monotonic() > deadline:
                return counts["completed"]
            time.sleep(0.1)  # the counts are polled: SQL tells nobody


def _verify_one() -> str:
    from pipeline.proof import receipt, verify

    verdict = verify(receipt("demo-1"), rpc_urls=get_settings().rpc_urls)
    reason = f" ({verdict.reason})" if verdict.reason else ""
    click.echo(f"proof of demo-1, checked against the contract: {verdict.verdict}{reason}")
    return verdict.verdict


def _document(number: int) -> dict[str, Any]:
    return {
        "credential_id": f"demo-{number + 1}",
        "document": {
            "@context": ["https://www.w3.org/ns/credentials/v2"],
            "type": ["VerifiableCredential", "Diploma"],
            "credentialSubject": {"name": f"Student {number + 1}", "degree": "Bachelor of Science"},
        },
    }


def _say(text: str) -> None:
    click.echo(f"{text} …", err=True)

"""All commands, and what each does in a few lines; what they need is imported when they run."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from pipeline.cli.output import json_option, show, write


class Command(click.Command):
    """A command that reads the settings when it runs: to ask for help, none are needed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Set up logging, then run."""
        from pipeline.logs import configure_logging
        from pipeline.settings import get_settings

        configure_logging(get_settings())
        return super().invoke(ctx)


class Group(click.Group):
    """A group of such commands, and of such groups."""

    command_class = Command
    group_class = type


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="credential-pipeline")
def cli() -> None:
    """Anchors credential hashes on an EVM chain."""


@cli.command()
@click.option("--credentials", default=25, show_default=True, type=click.IntRange(1, 100_000))
def demo(credentials: int) -> None:
    """Start servers and workers, anchor credentials, verify one proof, stop everything."""
    from pipeline.cli.demo import run_demo

    sys.exit(run_demo(credentials))


@cli.command()
def up() -> None:
    """Run servers, workers, scheduler and dashboard until Ctrl-C."""
    from pipeline.cli.demo import run_up

    run_up()


@cli.command()
@json_option
def deploy(as_json: bool) -> None:
    """Deploy a CredentialRegistry; the configured signer becomes owner and issuer."""
    from dataclasses import asdict

    from pipeline.chain.client import ChainClient
    from pipeline.ledger import nonces
    from pipeline.settings import get_settings

    settings = get_settings()
    settings.require_signer()
    found = asdict(ChainClient.from_settings(settings).deploy(choose_nonce=nonces.reserve))
    keys = ("contract_address", "transaction_hash", "block_number", "chain_id", "issuer")
    show({key: found[key] for key in keys}, as_json=as_json)


@cli.command()
@click.argument("file", type=click.File("rb"))
@click.option("--skip-invalid", is_flag=True, help="Queue the valid lines of a file that has others.")
@json_option
def enqueue(file: IO[bytes], skip_invalid: bool, as_json: bool) -> None:
    """Store and queue the credentials of FILE.jsonl, one a line (``-``: stdin)."""
    from pipeline.cli.enqueue import enqueue_file

    report = enqueue_file(file, skip_invalid=skip_invalid)
    for fault in report["invalid"]:
        click.echo(f"line {fault['line']}: {fault['error']}", err=True)
    text = f"{report['queued']} queued, {report['duplicates']} of them already known"
    show(report, as_json=as_json, text=text)
    if report["invalid"] and not skip_invalid:
        sys.exit(2)


@cli.command()
@click.argument("credential_id")
@json_option
def status(credential_id: str, as_json: bool) -> None:
    """Show where a credential's write is."""
    from pipeline.client import get_blockchain_write_status

    show(_known(get_blockchain_write_status, credential_id), as_json=as_json)


@cli.command()
@json_option
def stats(as_json: bool) -> None:
    """Show counts, totals, and whether chain writing is paused."""
    from pipeline.stats import stats as collect

    show(collect(), as_json=as_json)


@cli.command()
@click.option(
    "--state", required=True, type=click.Choice(["waiting", "active", "delayed", "completed", "failed"])
)
@click.option("--start", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--end", default=100, show_default=True, type=click.IntRange(min=0))
@json_option
def jobs(state: str, start: int, end: int, as_json: bool) -> None:
    """List the jobs of a state, oldest first; END is exclusive."""
    from pipeline import status as statuses

    if end < start:
        raise click.BadParameter(f"--end {end} is below --start {start}")
    found = statuses.jobs(state, start, end)
    show(found, as_json=as_json, text="\n".join(_line(job) for job in found))


def _line(job: dict[str, Any]) -> str:
    parts = (job["job_id"], job["credential_id"], job["status"], f"attempts {job['attempts']}", job["reason"])
    return "  ".join(str(part) for part in parts if part is not None)


@cli.command()
@click.argument("credential_ids", nargs=-1, metavar="[ID]...")
@click.option("--timeout", default=None, type=click.FloatRange(min=0), help="Seconds.")
@json_option
def wait(credential_ids: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until those credentials, or all, are completed or failed."""
    from pipeline.cli.wait import wait_for

    found = _known(lambda ids: wait_for(ids, timeout), credential_ids)
    show(found, as_json=as_json)
    sys.exit(1 if found["failed"] or found["pending"] else 0)


@cli.group("dead-letters")
def dead_letters() -> None:
    """Writes that failed for good: list, show, replay, discard."""


@dead_letters.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the open ones, oldest first."""
    from pipeline.deadletters import listed

    found = listed()
    text = "\n".join(f"{d['id']}  {d['credential_id']}  {d['stage']}  {d['error']}" for d in found)
    show(found, as_json=as_json, text=text)


@dead_letters.command("show")
@click.argument("name", metavar="ID")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show one, by its id or its credential's."""
    from pipeline.deadletters import shown

    show(shown(name), as_json=as_json)


@dead_letters.command()
@click.argument("names", nargs=-1, metavar="[ID]...")
@click.option("replay_all", "--all", is_flag=True, help="Replay all open ones.")
@json_option
def replay(names: tuple[str, ...], replay_all: bool, as_json: bool) -> None:
    """Queue failed writes again, under their old job ids."""
    from pipeline import deadletters

    if bool(names) == replay_all:
        raise click.UsageError("name dead letters, or give --all")
    replayed = deadletters.replay_all() if replay_all else deadletters.replay(names)
    show({"replayed": replayed}, as_json=as_json, text=f"{replayed} replayed")


@dead_letters.command()
@click.argument("name", metavar="ID")
@json_option
def discard(name: str, as_json: bool) -> None:
    """Take one off the list; its credential stays failed."""
    from pipeline.deadletters import discard as throw_away

    show({"discarded": throw_away(name)}, as_json=as_json)


@cli.command()
@click.argument("credential_id", required=False, metavar="[ID]")
@click.option("--batch", "root", metavar="ROOT", help="Instead: the dump of the batch with this Merkle root.")
@json_option
def proof(credential_id: str | None, root: str | None, as_json: bool) -> None:
    """Print the anchor receipt of a completed credential.

    Or a whole batch, salts included, as OpenZeppelin's standard-v1 dump.
    """
    from pipeline.proof import batch_dump, receipt

    if (credential_id is None) == (root is None):
        raise click.UsageError("name a credential, or give --batch")
    if root is not None:
        write(batch_dump(root))
    else:
        show(_known(receipt, credential_id), as_json=True)


@cli.command()
@click.argument("receipt", type=click.File("rb"))
@click.argument("document", type=click.File("rb"), required=False)
@json_option
def verify(receipt: IO[bytes], document: IO[bytes] | None, as_json: bool) -> None:
    """Check a receipt against the chain: valid 0, invalid or revoked 1, unknown 3."""
    from pipeline.proof import parse_receipt
    from pipeline.proof import verify as check
    from pipeline.settings import get_settings

    found = check(
        parse_receipt(receipt.read()), document.read() if document else None, rpc_urls=get_settings().rpc_urls
    )
    text = ": ".join(part for part in (found.verdict, found.step, found.reason) if part)
    show(found.as_json(), as_json=as_json, text=text)
    sys.exit({"valid": 0, "invalid": 1, "revoked": 1, "unknown": 3}[found.verdict])


@cli.command()
@json_option
def pause(as_json: bool) -> None:
    """Stop chain writing; intake goes on."""
    from pipeline import pausing
    from pipeline.timeline import person

    pausing.pause(person())
    show({"paused": True}, as_json=as_json)


@cli.command()
@json_option
def resume(as_json: bool) -> None:
    """Let chain writing go on."""
    import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
    from pipeline import pausing
    from pipeline.timeline import person

    pausing.resume(person())
    show({"paused": False}, as_json=as_json)


@cli.command()
@json_option
def purge(as_json: bool) -> None:
    """Run retention now."""
    from dataclasses import asdict

    import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
    from pipeline import retention

    show(asdict(retention.purge()), as_json=as_json)


@cli.command()
@click.argument("credential_id")
@json_option
def erase(credential_id: str, as_json: bool) -> None:
    """Remove a credential's document and salts for good; its status stays."""
    from pipeline.erasure import erase as remove

    writes = _known(remove, credential_id)
    show({"erased": True, "writes": writes}, as_json=as_json, text=f"erased, {writes} salts removed")


@cli.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check Redis, database, node, contract, role, balance, clock and stuck rows."""
    from pipeline.doctor import examine

    found = examine()
    text = "\n".join(f"{'ok ' if c['ok'] else 'BAD'}  {c['name']}: {c['detail']}" for c in found["checks"])
    show(found, as_json=as_json, text=text)
    sys.exit(0 if found["ok"] else 1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535))
def dashboard(host: str, port: int) -> None:
    """Serve the dashboard, its JSON API and /metrics until Ctrl-C."""
    import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
    from pipeline.dashboard.serve import serve
    from pipeline.settings import get_settings

    serve(get_settings(), host, port)


@cli.command("dashboard-user")
@click.argument("name")
@click.option("--role", default="viewer", show_default=True, type=click.Choice(["viewer", "operator"]))
@click.option("--remove", is_flag=True, help="Let this user in no more.")
def dashboard_user(name: str, role: str, remove: bool) -> None:
    """Write NAME's line into DASHBOARD_PASSWORD_FILE; the password is asked for, or read from stdin."""
    from pipeline.cli.dashboard_user import remove_user, set_user

    if remove:
        remove_user(name)
        click.echo(f"{name} is let in no more")
    else:
        set_user(name, role)
        click.echo(f"{name} is {role}")


def _known(ask: Any, credential_id: Any) -> Any:
    """The answer, or exit 1 for a credential that was never queued."""
    from pipeline.errors import UnknownCredential

    try:
        return ask(credential_id)
    except UnknownCredential as exc:
        click.echo(f"error: {exc.message}", err=True)
        sys.exit(1)

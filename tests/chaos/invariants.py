"""What must hold when a run is idle; `tests.truth` looks at ledger and chain, this at all the rest."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.chain.client import ChainClient
from pipeline.ledger import journal
from pipeline.models import Batch, BatchState, DeadLetter, Journal, State, Write
from pipeline.settings import Settings
from tests.chaos.faults import waited
from tests.chaos.running import Run
from tests.chaos.site import TOKEN, ChaosSite
from tests.truth import assert_truthful
from tests.workers import nothing_is_unacked

#: A worker that was killed is dead to the others after five seconds; its messages are then delivered.
ACK_SECONDS = 30.0

#: An alert that does not arrive is raised again by a sweep.
ALERT_SECONDS = 60.0

#: Of each document.
PERSONAL = b"Holder "

Check = Callable[[Run], None]


def breaches(run: Run) -> Iterator[str]:
    """What does not hold: one text for each check that failed."""
    for check in CHECKS:
        try:
            check(run)
        except AssertionError:
            yield f"{(check.__doc__ or check.__name__).splitlines()[0]}\n{traceback.format_exc(limit=-3)}"


def ledger_and_chain(run: Run) -> None:
    """Ledger and chain say the same, each credential once (invariants 2, 3 and 5)."""
    variables = {**run.site.variables, "blockchain_rpc_url": run.site.anvil.rpc_url}
    assert_truthful(run.site.anvil, variables)


def accepted_ones_are_there(run: Run) -> None:
    """Each accepted credential is in exactly one state, and nothing else is (invariant 1)."""
    states: dict[str, list[str]] = {}
    for name, state in Write.select(Write.credential_id, Write.state).tuples():
        states.setdefault(name, []).append(state)
    lost = set(run.intake.accepted) - set(states)
    assert not lost, f"lost: {sorted(lost)[:10]}"
    more = {name: found for name, found in states.items() if len(found) > 1}
    assert not more, f"more than one write: {more}"
    assert len(run.intake.accepted) == len(states), (len(run.intake.accepted), len(states))
    confirmed = {name for name, [state] in states.items() if state == State.CONFIRMED}
    assert not confirmed & run.intake.wrong, f"anchored with a wrong hash: {confirmed & run.intake.wrong}"


def failures_have_letters(run: Run) -> None:
    """Each failed write has one open dead letter, and no other has any (invariant 4)."""
    opened = [
        row[0] for row in DeadLetter.select(DeadLetter.write).where(DeadLetter.resolved_at.is_null()).tuples()
    ]
    failed = {row[0] for row in Write.select(Write.id).where(Write.state == State.FAILED).tuples()}
    assert Counter(opened) == Counter(failed), (sorted(opened)[:10], sorted(failed)[:10])


def failures_are_told(run: Run) -> None:
    """Each cause of a failure was told to Sentry (invariant 4)."""
    untold = DeadLetter.select().where(DeadLetter.alerted_at.is_null(), DeadLetter.resolved_at.is_null())
    assert waited(lambda: not untold.exists(), ALERT_SECONDS), f"{untold.count()} are not told"


def nothing_moves(run: Run) -> None:
    """No message is unacked, no batch is on its way (invariant 6)."""
    url = run.site.valkey.url
    assert waited(nothing_is_unacked(url), ACK_SECONDS), "some message is still unacked"
    ended = (BatchState.CONFIRMED, BatchState.FAILED)
    moving = list(
        Batch.select(Batch.id, Batch.state).where(Batch.state.not_in(ended), Batch.size > 0).tuples()
    )
    assert not moving, f"batches on their way: {moving[:10]}"


def histories_are_legal(run: Run) -> None:
    """Every un-confirm has a reorg behind it, every replay a failure (invariant 7)."""
    unconfirmed = list(Journal.select().where(Journal.event == journal.UNCONFIRMED).order_by(Journal.id))
    times = Counter(row.batch_id for row in unconfirmed)
    most = max(times.values(), default=0)
    assert most <= len(run.site.reorgs), f"un-confirmed {most} times, with {len(run.site.reorgs)} reorgs"
    for row in unconfirmed:
        batch = Batch.get_by_id(row.batch_id)
        assert batch.block_hash is None or batch.block_hash not in (row.detail or ""), row.detail
        assert batch.confirmed_at is None or batch.confirmed_at >= row.at, (
            f"batch {batch.id} confirmed before"
        )
    replays = Counter(row.write_id for row in Journal.select().where(Journal.event == journal.REPLAYED))
    letters = Counter(row[0] for row in DeadLetter.select(DeadLetter.write).tuples())
    assert replays <= letters, f"replayed without a failure: {replays - letters}"


def gas_is_that_of_receipts(run: Run) -> None:
    """Gas and price of each batch are its receipt's (invariant 8)."""
    variables = {**run.site.variables, "blockchain_rpc_url": run.site.anvil.rpc_url}
    batches = list(Batch.select().where(Batch.state == BatchState.CONFIRMED))
    receipts = ChainClient(Settings(**variables)).receipts([batch.transaction_hash for batch in batches])
    for batch in batches:
        receipt = receipts[batch.transaction_hash]
        assert receipt is not None, batch.transaction_hash
        found = (batch.gas_used, int(batch.gas_price_wei))
        assert found == (receipt.gas_used, receipt.gas_price_wei), (batch.id, found)


def canaries_stay_hidden(run: Run) -> None:
    """No key, token or personal data is in a log, in Redis's files or in an alert (invariant 9)."""
    key = str(run.site.variables["blockchain_private_key"]).removeprefix("0x").encode()
    canaries = (key, TOKEN.encode(), PERSONAL)
    for path in _written_by_the_pipeline(run.site):
        content = path.read_bytes()
        found = [canary for canary in canaries if canary in content]
        assert not found, f"{path.name} has {len(found)} of the canaries"
    told = json.dumps(run.site.kent.items()).encode()
    assert not [canary for canary in canaries if canary in told], "Sentry was told one of the canaries"


def _written_by_the_pipeline(site: ChaosSite) -> Iterator[Path]:
    for one in (*site.masters, site.scheduler):
        assert one is not None
        yield one.server.log_path
    yield from (path for path in site.valkey.directory.rglob("*.aof") if path.is_file())


#: The truth comes last: it mines fifty blocks.
CHECKS: tuple[Check, ...] = (
    accepted_ones_are_there,
    failures_have_letters,
    failures_are_told,
    nothing_moves,
    histories_are_legal,
    gas_is_that_of_receipts,
    canaries_stay_hidden,
    ledger_and_chain,
)

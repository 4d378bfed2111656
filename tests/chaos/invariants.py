"""What must hold when a run is idle; `tests.truth` looks at ledger and chain, this at all the rest.

The numbers are those of the list in this folder's README.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import peewee as pw

from pipeline import status
from pipeline.chain.client import ChainClient
from pipeline.hashing import document_hash
from pipeline.ledger import journal
from pipeline.models import Batch, BatchState, Credential, DeadLetter, Journal, State, Transaction, Write
from pipeline.settings import Settings
from tests.chaos.canaries import canaries_stay_hidden
from tests.chaos.faults.waiting import waited
from tests.chaos.running import Run
from tests.issuer import document
from tests.truth import assert_truthful
from tests.workers import nothing_is_unacked

#: A worker that was killed is dead to the others after five seconds; its messages are then delivered.
ACK_SECONDS = 30.0

#: An alert that does not arrive is raised again by a sweep.
ALERT_SECONDS = 60.0

#: What the credentials' rows say of a write.
SAID = {State.CONFIRMED: "confirmed", State.FAILED: "failed"}

#: Jobs that one list is asked for.
PAGE = 1000

Check = Callable[[Run], None]


def breaches(run: Run) -> Iterator[str]:
    """What does not hold: one text for each check that failed."""
    for check in CHECKS:
        try:
            check(run)
        except Exception:  # noqa: BLE001 -- what can not be checked does not hold
            yield f"{(check.__doc__ or check.__name__).splitlines()[0]}\n{traceback.format_exc(limit=-3)}"


def _chain(run: Run) -> ChainClient:
    return ChainClient(Settings(**{**run.site.variables, "blockchain_rpc_url": run.site.anvil.rpc_url}))


def accepted_ones_are_there(run: Run) -> None:
    """Each accepted credential is in exactly one state, and nothing else is (invariant 1)."""
    states: dict[str, list[str]] = {}
    # Without a leaf it is what is left of rubbish.
    for name, state in (
        Write.select(Write.credential_id, Write.state).where(Write.leaf.is_null(False)).tuples()
    ):
        states.setdefault(name, []).append(state)
    lost = set(run.intake.accepted) - set(states)
    assert not lost, f"lost: {sorted(lost)[:10]}"
    more = {name: found for name, found in states.items() if len(found) > 1}
    assert not more, f"more than one write: {more}"
    assert len(run.intake.accepted) == len(states), (len(run.intake.accepted), len(states))
    confirmed = {name for name, [state] in states.items() if state == State.CONFIRMED}
    assert not confirmed & run.intake.wrong, f"anchored with a wrong hash: {confirmed & run.intake.wrong}"
    others = set(states) - confirmed - run.intake.wrong
    assert not others, f"failed with a right hash: {sorted(others)[:10]}"


def credentials_say_so(run: Run) -> None:
    """Each credential's row says what has become of its write, and where it is (invariant 1)."""
    query = (
        Write.select(Credential.metadata, Write.state, Batch.transaction_hash, Batch.block_number)
        .join(Credential, on=(Credential.id == Write.credential_id))
        .switch(Write)
        .join(Batch, pw.JOIN.LEFT_OUTER)
        .where(Write.leaf.is_null(False))
    )
    for text, state, hash_, number in query.tuples():
        said: dict[str, Any] = json.loads(text)
        found = tuple(said.get(f"blockchain_{key}") for key in ("status", "transaction_hash", "block_number"))
        wanted = (
            SAID.get(state, "pending"),
            *((hash_, number) if state == State.CONFIRMED else (None, None)),
        )
        assert found == wanted, (found, wanted)


def hashes_are_those_of_documents(run: Run) -> None:
    """What is confirmed is the hash of the document that was handed in (invariant 2)."""
    confirmed = Write.select(Write.credential_id, Write.data_hash).where(Write.state == State.CONFIRMED)
    for name, data_hash in confirmed.tuples():
        assert data_hash == document_hash(document(int(name.removeprefix("c")))), name


def confirmed_ones_were_settled(run: Run) -> None:
    """Nothing is confirmed that was not settled: no late message moves what has gone back (invariant 2)."""
    nowhere = Batch.select().where(Batch.state == BatchState.CONFIRMED, Batch.block_number.is_null())
    members = (
        Write.select().join(Batch).where(Write.state == State.CONFIRMED, Batch.state != BatchState.CONFIRMED)
    )
    found = (nowhere.count(), members.count())
    assert found == (0, 0), (
        f"{found[0]} batches are confirmed in no block, {found[1]} writes before their batch"
    )


def confirmed_blocks_are_canonical(run: Run) -> None:
    """What is confirmed is in a block of the chain: every reorg was noticed (invariant 2)."""
    there = (Batch.state == BatchState.CONFIRMED) & Batch.block_number.is_null(False)
    places = Batch.select(Batch.block_number, Batch.block_hash).where(there)
    by_number: dict[int, set[str]] = {}
    for number, block_hash in places.tuples():
        by_number.setdefault(number, set()).add(block_hash)
    chain = {
        number: block and {block.hash} for number, block in _chain(run).blocks(sorted(by_number)).items()
    }
    gone = {number: hashes for number, hashes in by_number.items() if chain[number] != hashes}
    assert not gone, f"{len(gone)} confirmed blocks are not in the chain: {sorted(gone)[:10]}"


def intent_came_first(run: Run) -> None:
    """Whatever a node was sent is stored: so nothing is signed twice after a crash (invariant 3)."""
    stored = {hash_ for (hash_,) in Transaction.select(Transaction.hash).tuples()}
    unknown = {f"nonce {sent.nonce}: {sent.hash}" for sent in run.site.proxy.sent if sent.hash not in stored}
    assert not unknown, f"sent, and not stored: {sorted(unknown)[:10]}"


def batches_have_one_nonce(run: Run) -> None:
    """A batch is signed for one nonce, unless it is on record why it was written again (invariants 3, 5)."""
    signed = Transaction.select(Transaction.batch, Transaction.nonce).where(Transaction.batch.is_null(False))
    nonces: dict[int, set[int]] = {}
    for batch_id, nonce in signed.tuples():
        nonces.setdefault(batch_id, set()).add(nonce)
    again = Counter(row.batch_id for row in Journal.select().where(Journal.event == journal.WRITTEN_AGAIN))
    twice = {batch: sorted(found) for batch, found in nonces.items() if len(found) > 1 + again[batch]}
    assert not twice, f"batches that were written twice, with their nonces: {twice}"


def failures_have_letters(run: Run) -> None:
    """Each failed write has one open dead letter, and no other has any (invariant 4)."""
    opened = [
        row[0] for row in DeadLetter.select(DeadLetter.write).where(DeadLetter.resolved_at.is_null()).tuples()
    ]
    failed = {row[0] for row in Write.select(Write.id).where(Write.state == State.FAILED).tuples()}
    assert Counter(opened) == Counter(failed), (sorted(opened)[:10], sorted(failed)[:10])


def rubbish_has_letters(run: Run) -> None:
    """Of what was no message there is a dead letter, unless Redis has lost it, and of nothing else (4)."""
    found = {job_id for (job_id,) in Write.select(Write.job_id).where(Write.leaf.is_null()).tuples()}
    assert found <= run.site.rubbish, found - run.site.rubbish


def failures_are_told(run: Run) -> None:
    """Each cause of a failure was told to Sentry (invariant 4)."""
    opened = DeadLetter.select(DeadLetter.credential_id).where(DeadLetter.resolved_at.is_null())
    untold = opened.where(DeadLetter.alerted_at.is_null())
    assert waited(lambda: not untold.exists(), ALERT_SECONDS), f"{untold.count()} are not told"
    told = {event.get("tags", {}).get("credential_id") for event in run.site.kent.events()}
    failed = {name for (name,) in opened.tuples() if name}  # rubbish has no name
    assert failed <= told, f"Sentry was not told of {sorted(failed - told)[:10]}"


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
    batches = list(Batch.select().where(Batch.state == BatchState.CONFIRMED))
    receipts = _chain(run).receipts([batch.transaction_hash for batch in batches])
    for batch in batches:
        receipt = receipts[batch.transaction_hash]
        assert receipt is not None, batch.transaction_hash
        found = (batch.gas_used, int(batch.gas_price_wei))
        assert found == (receipt.gas_used, receipt.gas_price_wei), (batch.id, found)


def counts_are_those_of_lists(run: Run) -> None:
    """Each list has as many jobs as its count says, each of them once, in that state (invariant 8)."""
    for state, count in status.counts().items():
        jobs = [job for start in range(0, count + 1, PAGE) for job in status.jobs(state, start, start + PAGE)]
        assert {job["status"] for job in jobs} <= {state}
        assert len({job["job_id"] for job in jobs}) == len(jobs) == count, (state, len(jobs), count)


def ledger_and_chain(run: Run) -> None:
    """Ledger and chain say the same, each credential once (invariants 2, 3, 4 and 5)."""
    assert_truthful(run.site.anvil, run.site.variables, foreign=run.site.foreign.values())


#: The truth comes last: it mines fifty blocks.
CHECKS: tuple[Check, ...] = (
    accepted_ones_are_there,
    confirmed_ones_were_settled,
    confirmed_blocks_are_canonical,
    intent_came_first,
    batches_have_one_nonce,
    credentials_say_so,
    hashes_are_those_of_documents,
    failures_have_letters,
    rubbish_has_letters,
    failures_are_told,
    nothing_moves,
    histories_are_legal,
    gas_is_that_of_receipts,
    counts_are_those_of_lists,
    canaries_stay_hidden,
    ledger_and_chain,
)

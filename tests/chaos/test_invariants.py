"""Promise: each of the checks after a run fails when what it looks at is not so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from pipeline.database import database
from pipeline.ledger import journal
from pipeline.models import Batch, Journal
from pipeline.queues import acks_key
from tests.chaos import invariants
from tests.chaos.__main__ import one_run, options_of
from tests.chaos.invariants import CHECKS
from tests.chaos.running import Run
from tests.chaos.site import TOKEN, chaos_site
from tests.chaos.test_broken_runs import RUN

pytestmark = pytest.mark.timeout(300)

FIRST_BATCH = "(SELECT min(id) FROM batches WHERE state = 'confirmed')"
FIRST_WRITE = "(SELECT min(id) FROM writes WHERE state = 'confirmed')"
LAST_WRITE = "(SELECT max(id) FROM writes WHERE state = 'confirmed')"
COPIED = "batch_id, chain_id, signer, raw_transaction, state, gas_limit, max_fee_wei, tip_wei, created_at"

#: By the check that has to see it: what is done to the tables.
DAMAGE: dict[str, list[str]] = {
    "accepted_ones_are_there": [
        f"UPDATE writes SET credential_id = 'c100000' WHERE id = {FIRST_WRITE}",
        f"UPDATE writes SET state = 'failed' WHERE id = {FIRST_WRITE}",
        "UPDATE writes SET state = 'confirmed' WHERE state = 'failed'",
    ],
    "confirmed_ones_were_settled": [
        f"UPDATE batches SET block_number = NULL WHERE id = {FIRST_BATCH}",
        f"UPDATE batches SET state = 'submitted' WHERE id = {FIRST_BATCH}",
    ],
    "confirmed_blocks_are_canonical": [f"UPDATE batches SET block_hash = '0x00' WHERE id = {FIRST_BATCH}"],
    "intent_came_first": [f"DELETE FROM transactions WHERE batch_id = {FIRST_BATCH}"],
    "batches_have_one_nonce": [
        f"INSERT INTO transactions ({COPIED}, nonce, hash) SELECT {COPIED}, nonce + 1000, hash || 'f'"
        f" FROM transactions WHERE batch_id = {FIRST_BATCH}"
    ],
    "credentials_say_so": [
        "UPDATE credentials SET metadata = '{}' WHERE id = 'c0'",
        f"UPDATE batches SET block_number = block_number + 1 WHERE id = {FIRST_BATCH}",
    ],
    "hashes_are_those_of_documents": [
        f"UPDATE writes SET data_hash = repeat('ab', 32) WHERE id = {FIRST_WRITE}"
    ],
    "failures_have_letters": [
        "UPDATE dead_letters SET resolved_at = 1",
        "UPDATE dead_letters SET write_id = " + FIRST_WRITE,
    ],
    "rubbish_has_letters": [f"UPDATE writes SET leaf = NULL WHERE id = {FIRST_WRITE}"],
    "failures_are_told": [
        "UPDATE dead_letters SET alerted_at = NULL",
        "UPDATE dead_letters SET credential_id = 'c100000'",
    ],
    "nothing_moves": [f"UPDATE batches SET state = 'settled' WHERE id = {FIRST_BATCH}"],
    "histories_are_legal": [
        "INSERT INTO journal (at, event, actor, write_id)"
        f" VALUES (1, '{journal.REPLAYED}', 'x', {FIRST_WRITE})",
    ],
    "gas_is_that_of_receipts": [f"UPDATE batches SET gas_used = gas_used + 1 WHERE id = {FIRST_BATCH}"],
    "counts_are_those_of_lists": [
        "UPDATE write_counts SET delta = delta + 1 WHERE id = (SELECT min(id) FROM write_counts)"
    ],
    "canaries_stay_hidden": [f"UPDATE batches SET reason = '{TOKEN}' WHERE id = {FIRST_BATCH}"],
    "ledger_and_chain": [
        # An anchor that no batch knows, one that no chain has, and members of another tree.
        f"UPDATE batches SET state = 'failed' WHERE id = {FIRST_BATCH}",
        f"UPDATE batches SET merkle_root = '0x' || repeat('ab', 32) WHERE id = {FIRST_BATCH}",
        f"UPDATE batches SET transaction_hash = '0x' || repeat('ab', 32) WHERE id = {FIRST_BATCH}",
        f"UPDATE writes SET batch_id = {FIRST_BATCH} WHERE id = {LAST_WRITE}",
        f"UPDATE writes SET leaf = salt WHERE id = {FIRST_WRITE}",
        f"UPDATE writes SET state = 'verified' WHERE id = {FIRST_WRITE}",
        # A nonce that is missing, one that is not used up, and one that was used twice.
        "DELETE FROM transactions WHERE nonce = (SELECT min(nonce) + 1 FROM transactions)",
        "UPDATE transactions SET nonce = nonce + 1 WHERE nonce = (SELECT max(nonce) FROM transactions)",
        "UPDATE transactions SET nonce = nonce - 1 WHERE nonce = (SELECT max(nonce) FROM transactions)",
    ],
}


@pytest.fixture
def run() -> Iterator[Run]:
    """The run that `test_broken_runs` breaks, whole: everything holds."""
    options = options_of(RUN)
    with chaos_site(masters=options.masters) as site:
        run, found = one_run(site, options)
        assert found == []
        yield run


def test_each_check_can_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """For damage in tables, Redis, journal and logs; where nothing is damaged, it passes."""
    monkeypatch.setattr(invariants, "ACK_SECONDS", 0.1)
    monkeypatch.setattr(invariants, "ALERT_SECONDS", 0.1)
    assert {check.__name__ for check in CHECKS} == set(DAMAGE)
    unseen = [
        (name, sql) for name, all_sql in DAMAGE.items() for sql in all_sql if not is_seen(run, name, sql)
    ]
    assert unseen == []
    for damage in (an_unacked_message, un_confirmed_for_nothing, a_canary_in_a_log):
        name, mend = damage(run)
        assert fails(run, name), damage.__name__
        mend()
    with database.atomic():  # as the damage is
        assert list(invariants.breaches(run)) == []


def is_seen(run: Run, name: str, sql: str) -> bool:
    """Whether the check fails while that is done; then it is undone."""
    with database.atomic() as damage:
        changed = database.execute_sql(sql).rowcount
        assert changed, sql
        seen = fails(run, name)
        damage.rollback()
    return seen


def fails(run: Run, name: str) -> bool:
    """Whether the check of that name says that something does not hold."""
    check = getattr(invariants, name)
    try:
        check(run)
    except AssertionError:
        return True
    return False


Mend = tuple[str, Callable[[], object]]


def an_unacked_message(run: Run) -> Mend:
    """A worker that is no more has one."""
    key = acks_key("nobody", "hash_verify")
    with redis.Redis.from_url(run.site.valkey.url) as connection:
        connection.sadd(key, "x")
    return "nothing_moves", lambda: redis.Redis.from_url(run.site.valkey.url).delete(key)


def un_confirmed_for_nothing(run: Run) -> Mend:
    """Once more than there were reorgs."""
    batch = Batch.select().where(Batch.state == "confirmed").first()
    more = len(run.site.reorgs) + 1
    ids = [Journal.create(event=journal.UNCONFIRMED, actor="x", batch_id=batch.id, at=1) for _ in range(more)]
    return "histories_are_legal", lambda: [row.delete_instance() for row in ids]


def a_canary_in_a_log(run: Run) -> Mend:
    """A worker has logged the token."""
    log = run.site.masters[0].server.log_path
    content = log.read_bytes()
    log.write_bytes(content + TOKEN.encode())
    return "canaries_stay_hidden", lambda: log.write_bytes(content)

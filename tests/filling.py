"""A ledger as it is after years, on PostgreSQL: filled by the server itself, in one statement a kind.

Its rows are what the ledger would have left behind, but for roots and trees: a batch whose proofs
matter is filled as one that waits, and brought on by the ledger itself (`tests.ledger.anchored`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.database import database

BATCHES = """
INSERT INTO batches (lane, state, size, created_at, due_at, sent_at, retrying, mock, merkle_root, chain_id,
    contract_address, issuer, submitted_at, transaction_hash, block_number, block_hash, block_time,
    confirmations, confirmed_at, final_at)
SELECT 'normal', %(state)s, %(size)s, at, at, at, false, false,
    CASE WHEN %(state)s <> 'full' THEN '0x' || encode(sha256(n::text::bytea), 'hex') END, 31337,
    '0x' || repeat('01', 20), '0x' || repeat('02', 20), at,
    CASE WHEN %(state)s <> 'full' THEN '0x' || encode(sha256(n::text::bytea), 'hex') END,
    CASE WHEN %(state)s = 'confirmed' THEN n END, CASE WHEN %(state)s = 'confirmed' THEN '0x' || n END, at, 1,
    CASE WHEN %(state)s = 'confirmed' THEN at END, CASE WHEN %(state)s = 'confirmed' THEN at END
FROM (SELECT n, %(begin)s::float8 + (n - %(first)s) * 0.001 * %(size)s AS at
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS numbered
"""

TRANSACTIONS = """
INSERT INTO transactions (batch_id, chain_id, signer, nonce, hash, raw_transaction, state, gas_limit,
    max_fee_wei, tip_wei, created_at, sent_at, block_number, block_hash)
SELECT id, chain_id, issuer, id, transaction_hash, '0x' || repeat('ab', 180),
    CASE WHEN state = 'confirmed' THEN 'mined' ELSE 'sent' END, 60000, '1000000000', '1', created_at,
    created_at, block_number, block_hash
FROM batches WHERE state IN ('confirmed', 'submitted')
"""

WRITES = """
INSERT INTO writes (job_id, credential_id, data_hash, salt, leaf, priority, own_message, state, attempts,
    batch_id, document_checked, queued_at, updated_at, finished_at, due_at, sent_at, purged_at, error_code,
    error_message, error_stage, error_permanent)
SELECT gen_random_uuid(), %(kind)s || n, encode(sha256(n::text::bytea), 'hex'), sha256(n::text::bytea),
    sha256(('leaf ' || %(kind)s || n)::bytea), CASE WHEN n %% 10 = 0 THEN 'urgent' ELSE 'normal' END, false,
    %(state)s, %(attempts)s, %(batch)s::bigint + n / %(size)s, true, at, at,
    CASE WHEN %(state)s IN ('confirmed', 'failed') THEN at END, %(due_at)s, at, %(purged_at)s,
    CASE WHEN %(state)s = 'failed' THEN 'NodeUnreachable' END,
    CASE WHEN %(state)s = 'failed' THEN 'no answer' END,
    CASE WHEN %(state)s = 'failed' THEN 'chain_write' END,
    CASE WHEN %(state)s = 'failed' THEN n %% 2 = 0 END
FROM (SELECT n, %(begin)s::float8 + n * 0.001 AS at
      FROM generate_series(0, %(count)s::bigint - 1) AS n) AS numbered
"""

LETTERS = """
INSERT INTO dead_letters (write_id, cause_id, credential_id, job_id, stage, error, message, attempts,
    permanent, replayable, created_at, alerted_at)
SELECT id, gen_random_uuid(), credential_id, job_id, error_stage, error_code, error_message, attempts,
    error_permanent, NOT error_permanent, finished_at, finished_at
FROM writes WHERE state = 'failed' AND purged_at IS NULL
"""

#: A single leaf is the root.
ROOTS = """
UPDATE batches SET merkle_root = '0x' || encode(leaf, 'hex')
FROM writes WHERE batches.size = 1 AND merkle_root IS NOT NULL AND writes.batch_id = batches.id
"""


@dataclass(frozen=True)
class Kind:
    """Rows of one state: their share of all, and what they have in common."""

    share: float
    state: str
    attempts: int = 1
    batch_state: str | None = None
    days_ago: float = 0.0
    delayed: bool = False
    purged: bool = False
    #: Members of a batch.
    size: int = 1000


#: The names of the credentials begin with the key.
KINDS = {
    "purged": Kind(0.25, "confirmed", batch_state="confirmed", days_ago=60, purged=True),
    "failed-purged": Kind(0.01, "failed", attempts=3, days_ago=50, purged=True),
    "single": Kind(0.10, "confirmed", batch_state="confirmed", days_ago=45, size=1),
    "completed": Kind(0.25, "confirmed", batch_state="confirmed", days_ago=40),
    "failed": Kind(0.03, "failed", attempts=3, days_ago=2),
    "written": Kind(0.02, "verified", batch_state="submitted"),
    "verified": Kind(0.03, "verified", batch_state="full"),
    "single-verified": Kind(0.01, "verified", batch_state="full", size=1),
    "delayed": Kind(0.02, "queued", delayed=True),
    "waiting": Kind(0.28, "queued", attempts=0),
}


def fill(count: int) -> dict[str, int]:
    """Add ``count`` writes of all `KINDS`, less a few; returns how many of each.

    Their credentials have no rows.
    """
    made = {name: fill_kind(name, kind, round(count * kind.share)) for name, kind in KINDS.items()}
    for statement in (ROOTS, TRANSACTIONS, LETTERS):
        database.execute_sql(statement)
    database.execute_sql("VACUUM ANALYZE")
    return made


def fill_kind(name: str, kind: Kind, count: int) -> int:
    """Add ``count`` writes of one kind, in whole batches; returns how many."""
    count -= count % kind.size if kind.batch_state else 0
    begin = time.time() - 86_400 * kind.days_ago - count * 0.001
    database.execute_sql(
        WRITES,
        {
            "kind": f"{name}-",
            "state": kind.state,
            "attempts": kind.attempts,
            "batch": _fill_batches(kind, count // kind.size, begin) if kind.batch_state else None,
            "size": kind.size,
            "count": count,
            "begin": begin,
            "due_at": time.time() + 3600 if kind.delayed else None,
            "purged_at": time.time() if kind.purged else None,
        },
    )
    return count


def _fill_batches(kind: Kind, count: int, begin: float) -> int:
    """Returns the id of the first; the others follow."""
    (known,) = database.execute_sql("SELECT COALESCE(MAX(id), 0) FROM batches").fetchone()
    database.execute_sql(
        BATCHES,
        {
            "state": kind.batch_state,
            "size": kind.size,
            "begin": begin,
            "first": known + 1,
            "last": known + count,
        },
    )
    (newest,) = database.execute_sql("SELECT MAX(id) FROM batches").fetchone()
    return int(newest) - count + 1

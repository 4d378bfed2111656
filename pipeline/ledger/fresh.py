"""Writes of credentials that have none yet, which is nearly all of intake: stored with fixed statements.

On PostgreSQL that is one statement, and the function that it calls (migration 0014). To let peewee
build what is always the same took most of a `.send()`, and each statement is a round trip. What is not
as simple is left as it is, for `pipeline.ledger.queueing`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import peewee as pw

from pipeline.database import database, is_sqlite, retrying
from pipeline.intake import WriteRequest
from pipeline.ledger.metadata import PENDING, SQLITE_OBJECT
from pipeline.ledger.sql import LINE
from pipeline.merkle import leaf_hash
from pipeline.models import utc_now
from pipeline.prepared import Prepared

#: Requests that are stored together, and those of a part: while the server has one the next is made.
CHUNK, PART = 1000, 125

#: The requests of a part, the ids of their jobs and of their writes.
Stored = tuple[Sequence[WriteRequest], Sequence[str], list[int]]

#: Bytes of a salt.
SALT_BYTES = 32

ONE = Prepared(
    "SELECT queue_fresh_write(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
    [*["text"] * 4, *["bytea"] * 2, "text", "boolean", *["double precision"] * 2],
)
MANY = "SELECT queue_fresh_writes(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"

#: Hex digits whose first two bits are 10, by those of any.
VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}

#: How many of some credentials there are, and whether one of them has a write.
SQLITE_FOUND = """
WITH given AS (SELECT value FROM json_each(?))
SELECT (SELECT COUNT(*) FROM credentials WHERE id IN given),
    EXISTS (SELECT 1 FROM writes WHERE credential_id IN given)
"""

SQLITE_INSERT = """
INSERT INTO writes (job_id, credential_id, data_hash, ipfs_cid, salt, leaf, priority,
    own_message, state, attempts, queued_at, updated_at, sent_at, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, ?, ?, ?, ?)
RETURNING id
"""

SQLITE_MARK_PENDING = """
UPDATE credentials SET metadata = json_patch(OBJECT, ?), updated_at = ?
WHERE id IN (SELECT value FROM json_each(?))
""".replace("OBJECT", SQLITE_OBJECT)

#: Of a single one, that is asked with it.
SQLITE_INSERT_ONE = SQLITE_INSERT.replace("VALUES (", "SELECT ").replace(
    ")\nRETURNING",
    """
WHERE EXISTS (SELECT 1 FROM credentials WHERE id = ?)
    AND NOT EXISTS (SELECT 1 FROM writes WHERE credential_id = ?)
RETURNING""",
)
SQLITE_MARK_ONE_PENDING = SQLITE_MARK_PENDING.replace("IN (SELECT value FROM json_each(?))", "= ?")


#: What the rows of credentials say from now on.
PENDING_TEXT = json.dumps(PENDING)


def store(
    requests: Sequence[WriteRequest], job_ids: Sequence[str], *, own_message: bool, due_at: float | None
) -> list[int] | None:
    """Store a write for each of at most `CHUNK` requests; returns their ids, in the same order.

    None, and nothing is stored, unless each credential is there, has no write yet and comes once.
    """
    if len({request.credential_id for request in requests}) < len(requests):
        return None
    work = partial(_store, requests, job_ids, own_message, due_at)
    try:
        return retrying(work) if not database.in_transaction() else _in_savepoint(work)
    except (pw.DataError, pw.IntegrityError):
        return None  # metadata that jsonb does not take; what is wrong otherwise shows again


class _NotFresh(Exception):
    """One has a write, or comes in two parts: all that was stored has to go back."""


def store_in_parts(parts: Callable[[], Iterable[Sequence[WriteRequest]]]) -> list[Stored] | None:
    """`store` of all parts of at most `PART` requests, in one transaction; what making them raises goes up.

    None, and nothing is stored, as there; also on SQLite, and inside of a transaction.
    """
    if is_sqlite() or database.in_transaction():
        return None
    try:
        return retrying(partial(_store_in_parts, parts))
    except (pw.DataError, pw.IntegrityError, _NotFresh):
        return None


def _store_in_parts(parts: Callable[[], Iterable[Sequence[WriteRequest]]]) -> list[Stored]:
    sent: list[tuple[Sequence[WriteRequest], Sequence[str], Any]] = []
    with database.atomic(), pw.__exception_wrapper__:  # type: ignore[attr-defined]  # as peewee's own
        with database.connection().pipeline():
            for requests in parts():
                job_ids = new_job_ids(len(requests))
                values = (*_columns(requests, job_ids), False, time.time(), None)
                cursor = database.cursor()
                # Not prepared: psycopg takes a statement for prepared that has failed in its pipeline.
                cursor.execute(MANY, values, prepare=False)
                sent.append((requests, job_ids, cursor))
        stored = [(requests, job_ids, cursor.fetchone()[0]) for requests, job_ids, cursor in sent]
        if any(ids is None for *_, ids in stored):
            raise _NotFresh
    return stored


def _in_savepoint(work: partial[list[int] | None]) -> list[int] | None:
    """What fails must not take the transaction of the caller with it."""
    with database.atomic():
        return work()


def _store(
    requests: Sequence[WriteRequest], job_ids: Sequence[str], own_message: bool, due_at: float | None
) -> list[int] | None:
    common = (own_message, time.time(), due_at)
    if is_sqlite():
        salts, leaves = _salts_and_leaves(requests)
        return _store_on_sqlite(requests, job_ids, salts, leaves, *common)
    if len(requests) == 1:
        [one], [job_id], ([salt], [leaf]) = requests, job_ids, _salts_and_leaves(requests)
        parts = (one.credential_id, job_id, one.data_hash, one.ipfs_cid, salt, leaf, one.priority)
        made = _first(ONE, (*parts, *common))
        return None if made is None else [made]
    found: list[int] | None = _first(MANY, (*_columns(requests, job_ids), *common))
    return found


def _columns(requests: Sequence[WriteRequest], job_ids: Sequence[str]) -> tuple[str | bytes, ...]:
    """The first arguments of `MANY`."""
    salts, leaves = _salts_and_leaves(requests)
    return (
        LINE.join([request.credential_id for request in requests]),
        LINE.join(job_ids),
        LINE.join([request.data_hash for request in requests]),
        LINE.join([request.ipfs_cid or "" for request in requests]),
        b"".join(salts),
        b"".join(leaves),
        LINE.join([request.priority for request in requests]),
    )


def _salts_and_leaves(requests: Sequence[WriteRequest]) -> tuple[list[bytes], list[bytes]]:
    salts = _salts(len(requests))
    return salts, [leaf_of(request, salt) for request, salt in zip(requests, salts, strict=True)]


def _store_on_sqlite(
    requests: Sequence[WriteRequest],
    job_ids: Sequence[str],
    salts: Sequence[bytes],
    leaves: Sequence[bytes],
    own_message: bool,
    now: float,
    due_at: float | None,
) -> list[int] | None:
    times = (own_message, now, now, due_at or now, due_at)
    if len(requests) == 1:
        return _store_one_on_sqlite(requests[0], job_ids[0], salts[0], leaves[0], times)
    ids = json.dumps([request.credential_id for request in requests])
    with database.atomic():
        known, has_write = database.execute_sql(SQLITE_FOUND, (ids,)).fetchone()
        if known < len(requests) or has_write:
            return None
        made = [
            _first(
                SQLITE_INSERT,
                (job_id, r.credential_id, r.data_hash, r.ipfs_cid, salt, leaf, r.priority, *times),
            )
            for r, job_id, salt, leaf in zip(requests, job_ids, salts, leaves, strict=True)
        ]
        database.execute_sql(SQLITE_MARK_PENDING, (PENDING_TEXT, str(utc_now()), ids))
        return made


def _store_one_on_sqlite(
    request: WriteRequest, job_id: str, salt: bytes, leaf: bytes, times: Sequence[Any]
) -> list[int] | None:
    name = request.credential_id
    row = (job_id, name, request.data_hash, request.ipfs_cid, salt, leaf, request.priority, *times)
    with database.atomic():
        made = database.execute_sql(SQLITE_INSERT_ONE, (*row, name, name)).fetchone()
        if made is not None:
            database.execute_sql(SQLITE_MARK_ONE_PENDING, (PENDING_TEXT, str(utc_now()), name))
    return None if made is None else [made[0]]


def _first(sql: str, parameters: Sequence[Any]) -> Any:
    return database.execute_sql(sql, parameters).fetchone()[0]


def _salts(count: int) -> list[bytes]:
    """Random ones; the kernel is asked once."""
    drawn = os.urandom(SALT_BYTES * count)
    return [drawn[start : start + SALT_BYTES] for start in range(0, len(drawn), SALT_BYTES)]


def new_job_ids(count: int) -> list[str]:
    """Random UUIDs; the kernel is asked once."""
    drawn = os.urandom(16 * count).hex()
    return [_uuid4(drawn[start : start + 32]) for start in range(0, len(drawn), 32)]


def _uuid4(digits: str) -> str:
    """RFC 9562: of 32 random hex digits one is the version, and two bits of another are the variant."""
    end = f"{VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{end}"


def leaf_of(request: WriteRequest, salt: bytes) -> bytes:
    """The leaf of a request's write."""
    return leaf_hash(request.credential_id, bytes.fromhex(request.data_hash), request.ipfs_cid or "", salt)

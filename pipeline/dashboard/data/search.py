"""Whatever somebody has in hand (a credential, a job, a hash) leads to its jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import peewee as pw

from pipeline import status
from pipeline.dashboard.data import batches, jobs
from pipeline.dashboard.data.batches import BatchRow
from pipeline.dashboard.data.jobs import Job
from pipeline.database import is_sqlite, reading
from pipeline.errors import InvalidCredentialId
from pipeline.intake import check_credential_id
from pipeline.models import Batch, BatchState, Transaction, Write

Kind = Literal["credential", "job", "data hash", "transaction", "batch root", "credential prefix"]

#: A SHA-256, a transaction's hash or a root.
HASH = re.compile("(?:0[xX])?([0-9A-Fa-f]{64})")

#: The last character that there is, and those that are none: halves of pairs.
LAST, FIRST_HALF, AFTER_HALVES = 0x10FFFF, 0xD800, 0xE000


@dataclass(frozen=True, slots=True)
class Group:
    """What was found by one kind of name, newest first; ``more``: there is more than the limit.

    ``batch``: the one whose transaction or root it is; the jobs are its members then.
    """

    kind: Kind
    jobs: tuple[Job, ...]
    batch: BatchRow | None
    more: bool


@reading
def search(text: str, limit: int = 50) -> tuple[Group, ...]:
    """What ``text`` is the name of, the nearest first; nothing for what can be no name.

    Exact but for hashes, which may be in any case and without ``0x``; and the credential ids that begin
    with it, in their order. A batch that has failed is not found by its root: it has no members.
    """
    name = text.strip()
    try:
        check_credential_id(name)
    except InvalidCredentialId:
        return ()
    found = [*_named(name, limit), *_hashed(name, limit), _prefixed(name, limit)]
    return tuple(group for group in found if group.jobs or group.batch)


def _named(name: str, limit: int) -> Iterator[Group]:
    yield _jobs("credential", Write.credential_id == name, status.NEWEST_FIRST, limit)
    yield _jobs("job", Write.job_id == name, (Write.id,), limit)


def _hashed(name: str, limit: int) -> Iterator[Group]:
    match = HASH.fullmatch(name)
    if match is None:
        return
    digits = match[1].lower()
    yield _jobs("data hash", Write.data_hash == digits, (Write.id.desc(),), limit)
    of_hash = Transaction.select(Transaction.batch).where(Transaction.hash == f"0x{digits}")
    of_root = (Batch.merkle_root == f"0x{digits}") & (Batch.state != BatchState.FAILED)
    yield from _batches("transaction", Batch.id.in_(of_hash), limit)
    yield from _batches("batch root", of_root, limit)


def _prefixed(name: str, limit: int) -> Group:
    """By the bytes of UTF-8, whatever the collation: without the id itself, which is a group of its own."""
    least, above = (">", "<") if is_sqlite() else ("~>~", "~<~")
    condition = pw.Expression(Write.credential_id, least, name)
    end = successor(name)
    if end is not None:
        condition &= pw.Expression(Write.credential_id, above, end)
    return _jobs("credential prefix", condition, (_in_order(), Write.id.desc()), limit)


def _in_order() -> Any:
    """Credential ids in the order of their index."""
    return Write.credential_id if is_sqlite() else pw.NodeList((Write.credential_id, pw.SQL("USING ~<~")))


def successor(prefix: str) -> str | None:
    """The first text after all that begin with ``prefix``, by code points; None: there is none."""
    stem = prefix.rstrip(chr(LAST))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(AFTER_HALVES if following == FIRST_HALF else following)


def _jobs(kind: Kind, condition: Any, order: tuple[Any, ...], limit: int) -> Group:
    found = list(status.select().where(condition).order_by(*order).limit(limit + 1))
    view: Callable[[Any], Job] = jobs.viewer()
    return Group(kind, tuple(view(row) for row in found[:limit]), None, len(found) > limit)


def _batches(kind: Kind, condition: Any, limit: int) -> Iterator[Group]:
    for batch in Batch.select().where(condition):
        members = batches.members(batch.id, limit=limit)
        yield Group(kind, members.rows, batches.row_of(batch), members.next is not None)

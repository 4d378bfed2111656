"""What an erasure takes away: the credential's document and the salts of its writes.

What stays says that something was anchored, and not for whom: without its salt nobody can make a leaf
again. A write that has failed is not replayed then: that would anchor a leaf which nobody can explain.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import peewee as pw

from pipeline.database import database, is_sqlite, reading, transaction
from pipeline.errors import InvalidDocument, UnknownCredential, WritePending
from pipeline.ledger import dead_letters, journal, metadata
from pipeline.ledger.sql import chunks, lock_credentials, rows
from pipeline.models import Credential, DeadLetter, State, Write, utc_now

#: The error that names a place in the document, and so perhaps a key of it; and what is kept of that.
QUOTES, NOTHING = InvalidDocument.__name__, "document: erased"

#: Between two looks at an SQLite file whose log somebody else is at.
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Erased:
    """All jobs of the credential, and how many salts have gone now."""

    job_ids: list[str]
    salts: int


@transaction
def erase(credential_id: str, *, actor: str) -> Erased:
    """Remove document and salts; the journal says who did it. Nothing happens where nothing is left.

    Raises `UnknownCredential`, and `WritePending` while a write of it is pending.
    """
    known = lock_credentials([credential_id])
    writes = rows(
        Write.select(Write.id, Write.job_id, Write.state)
        .where(Write.credential_id == credential_id)
        .order_by(Write.id)
    )
    if not known and not writes:
        raise UnknownCredential(f"credential {credential_id!r}: there is no such credential")
    _refuse_pending(credential_id, [state for *_, state in writes])
    salts = _forget_salts(credential_id)
    gone = [salts, _forget_document(credential_id), dead_letters.resolve_erased(credential_id)]
    if any(gone):
        ids = [write_id for write_id, *_ in writes]
        _forget_quotes(credential_id, ids)
        journal.note(journal.ERASED, write_ids=ids, actor=actor, detail=f"credential {credential_id!r}")
    return Erased([job_id for _, job_id, _ in writes], salts)


def _refuse_pending(credential_id: str, states: Sequence[str]) -> None:
    if set(states) & set(State.PENDING):
        raise WritePending(
            f"credential {credential_id!r}: a write of it is pending, which needs document and salt; "
            "wait until it is completed or failed, and erase it then"
        )


def _forget_salts(credential_id: str) -> int:
    mine = (Write.credential_id == credential_id) & Write.salt.is_null(False)
    gone = rows(Write.update(salt=None).where(mine).returning(Write.state))
    # Where another program has taken away the credential's row, its lock keeps nobody out.
    _refuse_pending(credential_id, [row[0] for row in gone])
    return len(gone)


def _forget_document(credential_id: str) -> int:
    mine = (Credential.id == credential_id) & Credential.document.is_null(False)
    return int(Credential.update(document=None, updated_at=utc_now()).where(mine).execute())


def _forget_quotes(credential_id: str, write_ids: Sequence[int]) -> None:
    """Errors name no value of a document, but the key at which it is wrong."""
    for part in chunks(write_ids):
        Write.update(error_message=NOTHING).where(Write.id.in_(part), Write.error_code == QUOTES).execute()
        DeadLetter.update(message=NOTHING).where(
            DeadLetter.write.in_(part), DeadLetter.error == QUOTES
        ).execute()
    metadata.forget_error(credential_id, QUOTES, NOTHING)


@reading
def among(write_ids: Sequence[int]) -> list[int]:
    """Those of ``write_ids`` whose salt was erased."""
    found: list[int] = []
    for part in chunks(write_ids):
        erased = Write.salt.is_null() & Write.leaf.is_null(False)
        found += [row[0] for row in rows(Write.select(Write.id).where(Write.id.in_(part), erased))]
    return found


def scrub() -> str | None:
    """Leave no copy of what was removed in an SQLite file and its log; why that failed, or None.

    A row that is changed or moved stays in its old place until that is used again. Waits for others'
    locks as any transaction does. Nothing here can reach PostgreSQL's files: its rows are gone.
    """
    if not is_sqlite():
        return None
    try:
        # Not in memory: it is a copy of the whole database.
        database.execute_sql("PRAGMA temp_store = file")
        database.execute_sql("VACUUM")
        return None if _empty_log() else "somebody reads it"
    except pw.OperationalError as exc:
        return str(exc)
    finally:
        database.execute_sql("PRAGMA temp_store = memory")


def _empty_log() -> bool:
    """Bring all of the log into the file, and the log to no length; False while somebody needs it."""
    deadline = time.monotonic() + database.timeout
    while _is_busy():  # at once, while another one is at it: SQLite waits for readers and writers only
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _is_busy() -> bool:
    [(busy, *_)] = database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return bool(busy)

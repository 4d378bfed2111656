"""Erase a credential: its document and its salts go for good; that it was anchored stays.

Whoever holds a receipt can still prove what it says: it has the salt. Nobody who has neither that nor this
database can link the leaf on the chain to anybody any more. `docs/how-it-works.md` says what no program can
reach.
"""

from __future__ import annotations

from redis import RedisError

import pipeline.actors  # noqa: F401 - results go through the broker
from pipeline import transitions
from pipeline.completion import job_results
from pipeline.database import database
from pipeline.errors import ErasureIncomplete
from pipeline.intake import check_credential_id
from pipeline.ledger import erasure
from pipeline.redis_files import NotRenewed
from pipeline.timeline import person


def erase(credential_id: str, *, actor: str | None = None) -> int:
    """Remove the credential's document and the salts of its writes; returns how many writes had one.

    ``actor``: who does it; by default whoever runs this process. To erase twice does no harm. Not
    inside an open transaction (`RuntimeError`): what is not committed can come back.

    Raises `InvalidCredentialId`, `UnknownCredential`, `WritePending` while a write of it is pending, and
    `ErasureIncomplete` when the rows are erased and a copy may be left in Redis, in Redis's files or in
    the SQLite file: to call it again finishes that.
    """
    check_credential_id(credential_id)
    if database.in_transaction():
        raise RuntimeError("erase() begins and ends its own transaction: call it outside of an open one")
    erased = erasure.erase(credential_id, actor=actor or person())
    transitions.tell("erased", credential_id=credential_id, salts=erased.salts)
    left = [part for part in (_leave_redis(erased.job_ids), _leave_file()) if part is not None]
    if left:
        raise ErasureIncomplete(
            f"credential {credential_id!r}: erased, but a copy may still be in {' and in '.join(left)}; "
            "to erase it once more finishes that"
        )
    return erased.salts


def _leave_redis(job_ids: list[str]) -> str | None:
    """Remove the results of these jobs, which hold salts; where they may still be, or None.

    Nothing else in Redis has any: messages and events are ids, hashes and CIDs.
    """
    backend = job_results()
    if backend is None or not job_ids:
        return None
    try:
        backend.erase(job_ids)
    except NotRenewed as exc:
        return f"Redis ({exc})"
    except RedisError as exc:
        return f"Redis ({type(exc).__name__})"
    return None


def _leave_file() -> str | None:
    fault = erasure.scrub()
    return None if fault is None else f"the database file ({fault})"

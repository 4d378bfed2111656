"""Who is logged in to the dashboard, and who tried in vain."""

from __future__ import annotations

import hashlib
import secrets
import time

from pipeline.database import reading, transaction
from pipeline.ledger import journal
from pipeline.models import Journal, Session

#: A session ends after so long, whoever still uses it; seconds.
SESSION_SECONDS = 12 * 3600.0

#: Bytes of a token.
TOKEN_BYTES = 32

#: Refused log-ins of one address in the last `REFUSED_WITHIN_SECONDS`: after as many nobody is let in from
#: there, whatever the name. A limit for a name would let strangers lock its owner out, and tell who exists.
MAX_REFUSED = 5
REFUSED_WITHIN_SECONDS = 300.0

#: For so long it is kept who logged in or was refused; seconds.
LOG_INS_KEPT_SECONDS = 90 * 86_400.0


@transaction
def begin(name: str, password_tag: str, *, address: str) -> tuple[str, Session]:
    """A new session and its token, which is stored nowhere here."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    now = time.time()
    session = Session.create(
        token_hash=_hash(token),
        name=name,
        password_tag=password_tag,
        csrf_token=secrets.token_urlsafe(TOKEN_BYTES),
        created_at=now,
        expires_at=now + SESSION_SECONDS,
    )
    journal.note(journal.LOGGED_IN, actor=name, detail=address)
    return token, session


@reading
def find(token: str) -> Session | None:
    """The session with this token that is not over."""
    mine = (Session.token_hash == _hash(token)) & (Session.expires_at > time.time())
    found: Session | None = Session.select().where(mine).first()
    return found


@transaction
def end(token: str) -> None:
    """Log out."""
    names = Session.delete().where(Session.token_hash == _hash(token)).returning(Session.name).tuples()
    for (name,) in list(names):
        journal.note(journal.LOGGED_OUT, actor=name)


@transaction
def refuse(name: str, *, address: str) -> None:
    """Somebody gave a wrong password for ``name``, or a name that there is not."""
    journal.note(journal.LOG_IN_REFUSED, actor=name, detail=address)


@reading
def is_limited(address: str) -> bool:
    """Whether this address was refused too often of late to be let in now."""
    since = time.time() - REFUSED_WITHIN_SECONDS
    mine = (Journal.event == journal.LOG_IN_REFUSED) & (Journal.at > since) & (Journal.detail == address)
    return bool(Journal.select().where(mine).count() >= MAX_REFUSED)


@transaction
def forget_old() -> None:
    """Drop sessions that are over, and log-ins of long ago."""
    now = time.time()
    Session.delete().where(Session.expires_at < now).execute()
    log_ins = Journal.event.in_((journal.LOGGED_IN, journal.LOGGED_OUT, journal.LOG_IN_REFUSED))
    Journal.delete().where(log_ins, Journal.at < now - LOG_INS_KEPT_SECONDS).execute()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

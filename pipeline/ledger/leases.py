"""Who may run a sweep: a row per sweep with a holder and an end, so that a dead holder blocks nobody long."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pipeline.database import close_connection, statement
from pipeline.errors import DatabaseUnavailable
from pipeline.ledger import sql
from pipeline.ledger.sql import rows
from pipeline.models import Lease

logger = logging.getLogger(__name__)

#: The longest that a lease may last. One that ends later was made by a wrong clock: nobody believes it.
MAX_SECONDS = 60.0


def new_holder() -> str:
    """A name for one holder, unique over all machines."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@statement
def acquire(name: str, holder: str, *, seconds: float) -> bool:
    """Take or prolong the lease ``name`` for ``seconds``; False while somebody else has it.

    Raises `ValueError` for more than `MAX_SECONDS`.
    """
    if seconds > MAX_SECONDS:
        raise ValueError(f"a lease of {seconds:g} s: none may be longer than {MAX_SECONDS:g} s")
    now = sql.now()
    over = (Lease.expires_at < now) | (Lease.expires_at > now + MAX_SECONDS)
    row = {"name": name, "holder": holder, "expires_at": now + seconds}
    taken = Lease.insert(row).on_conflict(
        conflict_target=[Lease.name],
        preserve=[Lease.holder, Lease.expires_at],
        where=(Lease.holder == holder) | over,
    )
    return bool(rows(taken.returning(Lease.holder)))


@statement
def release(name: str, holder: str) -> None:
    """Give the lease back, if ``holder`` still has it."""
    Lease.delete().where(Lease.name == name, Lease.holder == holder).execute()


@contextmanager
def held(name: str, *, seconds: float) -> Iterator[bool]:
    """``with held(...) as mine``: True for the only holder among all processes.

    The lease is prolonged for as long as the block takes; it ends ``seconds`` after the process did.
    """
    holder = new_holder()
    if not acquire(name, holder, seconds=seconds):
        yield False
        return
    over = threading.Event()
    keeper = threading.Thread(target=_prolong, args=(name, holder, seconds, over), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        over.set()
        keeper.join()
        release(name, holder)


def _prolong(name: str, holder: str, seconds: float, over: threading.Event) -> None:
    while not over.wait(seconds / 3):
        try:
            if not acquire(name, holder, seconds=seconds):
                logger.warning("the lease %r was lost: this process had stopped for too long", name)
                break
        except DatabaseUnavailable as exc:
            logger.warning("the lease %r was not prolonged: %s", name, exc.message)
    close_connection()

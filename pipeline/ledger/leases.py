"""Who may run a sweep: a row per sweep with a holder and an end, so that a dead holder blocks nobody long."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pipeline.database import transaction
from pipeline.models import Lease


def new_holder() -> str:
    """A name for one holder, unique over all machines."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@transaction
def acquire(name: str, holder: str, *, seconds: float) -> bool:
    """Take or prolong the lease ``name`` for ``seconds``; False while somebody else has it."""
    now = time.time()
    taken = (
        Lease.update(holder=holder, expires_at=now + seconds)
        .where(Lease.name == name, (Lease.holder == holder) | (Lease.expires_at < now))
        .execute()
    )
    if taken:
        return True
    row = {"name": name, "holder": holder, "expires_at": now + seconds}
    Lease.insert(row).on_conflict_ignore().execute()
    return bool(Lease.select().where(Lease.name == name, Lease.holder == holder).exists())


@transaction
def release(name: str, holder: str) -> None:
    """Give the lease back, if ``holder`` still has it."""
    Lease.delete().where(Lease.name == name, Lease.holder == holder).execute()


@contextmanager
def held(name: str, *, seconds: float) -> Iterator[bool]:
    """``with held(...) as mine``: True for the only holder among all processes."""
    holder = new_holder()
    mine = acquire(name, holder, seconds=seconds)
    try:
        yield mine
    finally:
        if mine:
            release(name, holder)

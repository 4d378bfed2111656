"""The way of one write, in order: from its rows, and from what the journal has of it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from typing import Any

from pipeline.database import reading
from pipeline.ledger import journal
from pipeline.models import Batch, DeadLetter, Write
from pipeline.status import iso

#: Time, event, detail, who.
Entry = tuple[float, str, str | None, str]


@reading
def of(write_id: int) -> list[dict[str, Any]]:
    """``[{"at", "event", "detail", "actor"}]``, the oldest first; ``actor`` is a person or ``pipeline``."""
    write: Any = Write.get_by_id(write_id)
    letters = list(DeadLetter.select().where(DeadLetter.write == write_id).order_by(DeadLetter.id))
    batch_ids = {letter.batch_id for letter in letters} | {write.batch_id}
    entries = [
        (write.queued_at, "queued", None, journal.PIPELINE),
        *((letter.created_at, "failed", _error(letter), journal.PIPELINE) for letter in letters),
        *(_written(write.batch) if write.batch is not None else ()),
        *(
            (row.at, row.event, row.detail, row.actor)
            for row in journal.of_write(write_id, [id_ for id_ in batch_ids if id_ is not None])
        ),
    ]
    return [
        {"at": iso(at), "event": event, "detail": detail, "actor": actor}
        for at, event, detail, actor in sorted(entries, key=lambda entry: entry[0])
    ]


def _written(batch: Batch) -> Iterator[Entry]:
    if batch.submitted_at is not None:
        yield batch.submitted_at, "written", batch.transaction_hash, journal.PIPELINE
    if batch.confirmed_at is not None:
        block = None if batch.block_number is None else f"block {batch.block_number}"
        yield batch.confirmed_at, "confirmed", block, journal.PIPELINE


def _error(letter: Any) -> str:
    return f"{letter.stage}: {letter.error}: {letter.message}"


def person() -> str:
    """Who runs this process: the user's name and the machine's."""
    return f"{getpass.getuser()}@{socket.gethostname()}"

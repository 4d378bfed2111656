"""What an issuer does before a run: credentials in bulk, with their queued writes, and the messages."""

from __future__ import annotations

import time

from pipeline import messages
from pipeline.database import database, transaction
from pipeline.intake import CredentialRecord
from pipeline.ledger import credentials, queueing
from pipeline.ledger.sql import chunks, rows
from pipeline.models import State, Write
from tests.issuer import document

#: Messages leave later than the rows say, when a run begins. A sweep must not take them for lost.
NOT_LOST_FOR_SECONDS = 86_400.0

#: Credentials that are stored together.
PART = 1000


def store(count: int, *, queued: bool = True) -> None:
    """Store that many credentials and, if told so, queue their writes; no message leaves."""
    for part in chunks(range(count), PART):
        records = [CredentialRecord.of(f"c{number}", document(number)) for number in part]
        _store(records, queued)
    database.execute_sql("VACUUM (FULL, ANALYZE) credentials, writes")


@transaction
def _store(records: list[CredentialRecord], queued: bool) -> None:
    credentials.store(records)
    if not queued:
        return
    queueing.queue([record.request for record in records])
    Write.update(sent_at=time.time() + NOT_LOST_FOR_SECONDS).where(Write.sent_at < time.time()).execute()


def queued() -> list[int]:
    """The ids of what waits, oldest first."""
    return [
        row[0] for row in rows(Write.select(Write.id).where(Write.state == State.QUEUED).order_by(Write.id))
    ]


def send(write_ids: list[int], message_size: int) -> None:
    """Have them verified: the messages that bulk intake sends after its commit."""
    for part in chunks(write_ids, message_size):
        messages.send("hash_verify_many", list(part))

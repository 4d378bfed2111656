"""The tables, as peewee models. `pipeline.ledger` alone writes to them.

Times are seconds since the epoch (float, UTC) unless the name says otherwise; hashes
of the chain are text with ``0x``; amounts are in wei, as text where 64 bits may not do.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import peewee as pw

from pipeline.database import database


class JsonText(pw.TextField):
    """A JSON column of which Python sees the text."""

    field_type = "JSON"


class UtcDateTime(pw.DateTimeField):
    """A point in time with its zone."""

    field_type = "TIMESTAMPTZ"


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class Table(pw.Model):
    """Base of all tables."""

    class Meta:
        database = database
        legacy_table_names = False


class Credential(Table):
    """What the issuer issued. Other programs may insert rows too."""

    id = pw.TextField(primary_key=True)
    document: Any = JsonText(null=True)
    data_hash = pw.TextField(null=True)
    ipfs_cid = pw.TextField(null=True)
    metadata: Any = JsonText(default="{}")
    created_at = UtcDateTime(default=utc_now)
    updated_at = UtcDateTime(default=utc_now)

    class Meta:
        table_name = "credentials"


class State:
    """The states of a write. `PENDING` are those on their way.

    From ``verified`` on it is its batch's state that says how far it is, so that what happens to a
    thousand members is one row's change. ``written`` is what earlier versions called those of a
    submitted batch: `IN_A_BATCH` has both.
    """

    QUEUED = "queued"
    VERIFIED = "verified"
    WRITTEN = "written"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    PENDING = (QUEUED, VERIFIED, WRITTEN)
    IN_A_BATCH = (VERIFIED, WRITTEN)


class BatchState:
    """The states of a batch.

    ``open`` takes members; ``full`` takes none and waits for its turn; ``submitted`` has its
    transaction stored; ``settled`` is deep enough in the chain (or mocked); ``confirmed`` has
    all members confirmed; ``failed`` will never be on the chain.
    """

    OPEN = "open"
    FULL = "full"
    SUBMITTED = "submitted"
    SETTLED = "settled"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    WAITING = (OPEN, FULL)


class Batch(Table):
    """One Merkle tree, one chain write."""

    id = pw.BigAutoField()
    lane = pw.TextField()
    state = pw.TextField(default=BatchState.OPEN)
    size = pw.IntegerField(default=0)
    created_at = pw.DoubleField(default=time.time)
    #: Not before this time is it written (linger, or a retry's backoff).
    due_at = pw.DoubleField(default=time.time)
    #: When the last ``chain_write`` or ``db_update`` message for it left.
    sent_at = pw.DoubleField(default=0)
    retrying = pw.BooleanField(default=False)
    reason = pw.TextField(null=True)
    mock = pw.BooleanField(default=False)
    merkle_root = pw.TextField(null=True)
    chain_id = pw.BigIntegerField(null=True)
    contract_address = pw.TextField(null=True)
    issuer = pw.TextField(null=True)
    submitted_at = pw.DoubleField(null=True)
    transaction_hash = pw.TextField(null=True)
    block_number = pw.BigIntegerField(null=True)
    block_hash = pw.TextField(null=True)
    block_time = pw.DoubleField(null=True)
    confirmations = pw.IntegerField(default=0)
    gas_used = pw.BigIntegerField(null=True)
    gas_price_wei = pw.TextField(null=True)
    confirmed_at = pw.DoubleField(null=True)
    #: Since when its block can not be taken away any more: nobody watches it from then on.
    final_at = pw.DoubleField(null=True)

    class Meta:
        table_name = "batches"


class Tree(Table):
    """The Merkle tree of a batch of two or more, so that a proof need not be made of all leaves."""

    batch = pw.ForeignKeyField(Batch, primary_key=True)
    #: 32 bytes each, as `pipeline.merkle.MerkleTree.nodes`; a tree never changes.
    nodes = pw.BlobField()

    class Meta:
        table_name = "trees"


class Write(Table):
    """One job: the hash of one credential on its way to the chain."""

    id = pw.BigAutoField()
    job_id = pw.TextField(unique=True)
    credential_id = pw.TextField()
    data_hash = pw.TextField()
    ipfs_cid = pw.TextField(null=True)
    salt = pw.BlobField(null=True)
    leaf = pw.BlobField(null=True)
    priority = pw.TextField(default="normal")
    #: Whether it has a Dramatiq message, and so a Dramatiq result, of its own.
    own_message = pw.BooleanField(default=False)
    state = pw.TextField(default=State.QUEUED)
    attempts = pw.IntegerField(default=0)
    #: How often its verification has begun without an end: its worker died of it, or at the same time.
    deliveries = pw.IntegerField(default=0)
    batch = pw.ForeignKeyField(Batch, null=True, backref="writes")
    document_checked = pw.BooleanField(null=True)
    queued_at = pw.DoubleField(default=time.time)
    updated_at = pw.DoubleField(default=time.time)
    finished_at = pw.DoubleField(null=True)
    #: When the same was last asked for again; null: only once.
    requested_at = pw.DoubleField(null=True)
    #: Set while a retry (or a delayed first try) waits for its time.
    due_at = pw.DoubleField(null=True)
    sent_at = pw.DoubleField(default=time.time)
    purged_at = pw.DoubleField(null=True)
    error_code = pw.TextField(null=True)
    error_message = pw.TextField(null=True)
    error_stage = pw.TextField(null=True)
    error_permanent = pw.BooleanField(null=True)

    class Meta:
        table_name = "writes"


class Verification(Table):
    """Writes whose first verification has begun, of one chunk: the row goes when it has ended.

    One that stays was left by a worker that died.
    """

    id = pw.BigAutoField()
    begun_at = pw.DoubleField(default=time.time)
    first_id = pw.BigIntegerField()
    last_id = pw.BigIntegerField()
    #: JSON, in ascending order.
    write_ids = pw.TextField()

    class Meta:
        table_name = "verifications"


class WriteCount(Table):
    """How many writes are in a state: the sum of its rows' ``delta``. Triggers keep it (migration 0007)."""

    id = pw.BigAutoField()
    status = pw.TextField()
    delta = pw.BigIntegerField()

    class Meta:
        table_name = "write_counts"


class Signer(Table):
    """The next nonce of a key on a chain; its row is the lock under which nonces are given out."""

    id = pw.BigAutoField()
    chain_id = pw.BigIntegerField()
    address = pw.TextField()
    next_nonce = pw.BigIntegerField()
    #: In wei, as the node last said; null before that.
    balance_wei = pw.TextField(null=True)
    balance_at = pw.DoubleField(null=True)

    class Meta:
        table_name = "signers"


class TransactionState:
    """``signed`` is stored, ``sent`` a node has, ``mined`` is in a block, ``reverted`` too, in vain.

    Several may share a nonce: a replacement, and what it was to replace.
    """

    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    REVERTED = "reverted"
    UNMINED = (SIGNED, SENT)


class Transaction(Table):
    """Every transaction ever signed, with its bytes: the same ones go out again."""

    id = pw.BigAutoField()
    batch = pw.ForeignKeyField(Batch, null=True, backref="transactions")
    batch_id: Any
    chain_id = pw.BigIntegerField()
    signer = pw.TextField()
    nonce = pw.BigIntegerField()
    hash = pw.TextField(unique=True)
    raw_transaction = pw.TextField()
    state = pw.TextField(default=TransactionState.SIGNED)
    gas_limit = pw.BigIntegerField()
    max_fee_wei = pw.TextField()
    tip_wei = pw.TextField()
    created_at = pw.DoubleField(default=time.time)
    sent_at = pw.DoubleField(null=True)
    answer = pw.TextField(null=True)
    #: The head when it was first sent: what is not mined three blocks later is stuck.
    sent_block = pw.BigIntegerField(null=True)
    block_number = pw.BigIntegerField(null=True)
    block_hash = pw.TextField(null=True)
    #: Since when the chain has used its nonce, and nobody finds it in a block.
    missing_since = pw.DoubleField(null=True)
    #: The head at that time.
    missing_block = pw.BigIntegerField(null=True)
    #: Since when it can never be mined: another transaction has final use of its nonce.
    lost_at = pw.DoubleField(null=True)

    @property
    def is_live(self) -> bool:
        """Whether it is in the chain, or can still be."""
        return self.lost_at is None and self.state != TransactionState.REVERTED

    @property
    def is_live_anchor(self) -> bool:
        """The same, and it is a batch's: its nonce is for nothing else."""
        return self.is_live and self.batch_id is not None

    class Meta:
        table_name = "transactions"


class DeadLetter(Table):
    """A write that failed for good, until somebody replays or discards it."""

    id = pw.BigAutoField()
    write = pw.ForeignKeyField(Write, backref="dead_letters")
    #: Shared by all dead letters of one cause, for instance of one batch: one alert each.
    cause_id = pw.TextField()
    credential_id = pw.TextField()
    job_id = pw.TextField()
    stage = pw.TextField()
    error = pw.TextField()
    message = pw.TextField()
    attempts = pw.IntegerField()
    permanent = pw.BooleanField()
    #: Whether it goes out once more by itself when its outage is over: not too often.
    replayable = pw.BooleanField(default=False)
    batch_id = pw.BigIntegerField(null=True)
    created_at = pw.DoubleField(default=time.time)
    alerted_at = pw.DoubleField(null=True)
    #: When an alert was raised that has not arrived.
    alert_tried_at = pw.DoubleField(null=True)
    resolved_at = pw.DoubleField(null=True)
    resolution = pw.TextField(null=True)

    class Meta:
        table_name = "dead_letters"


class Journal(Table):
    """Something that happened to a write, to a batch, or to the pipeline, and who did it."""

    id = pw.BigAutoField()
    at = pw.DoubleField(default=time.time)
    event = pw.TextField()
    #: A person's name, or ``pipeline``.
    actor = pw.TextField()
    write_id = pw.BigIntegerField(null=True)
    batch_id = pw.BigIntegerField(null=True)
    detail = pw.TextField(null=True)

    class Meta:
        table_name = "journal"


class Outbox(Table):
    """An event of some jobs that is not published yet. ``jobs`` and ``detail`` are JSON."""

    id = pw.BigAutoField()
    at = pw.DoubleField(default=time.time)
    claimed_at = pw.DoubleField(null=True)
    event = pw.TextField()
    jobs = pw.TextField()
    detail = pw.TextField()

    class Meta:
        table_name = "outbox"


class Chain(Table):
    """A chain that was written to: its first block, and the newest one that a sweep has seen."""

    chain_id = pw.BigIntegerField(primary_key=True)
    genesis_hash = pw.TextField()
    seen_number = pw.BigIntegerField(null=True)
    seen_hash = pw.TextField(null=True)
    #: What that block says of its time; null before a sweep has noted one.
    seen_time = pw.DoubleField(null=True)
    #: Since when the head is below a block in which something of ours was seen.
    lower_since = pw.DoubleField(null=True)

    class Meta:
        table_name = "chains"


class Incident(Table):
    """Something about chain, node or wallet that operators have to know, from its begin to its end."""

    id = pw.BigAutoField()
    #: The same at each repeat of the alert.
    event_id = pw.TextField()
    #: The name of an error class.
    kind = pw.TextField()
    subject = pw.TextField()
    level = pw.TextField()
    message = pw.TextField()
    opened_at = pw.DoubleField(default=time.time)
    alerted_at = pw.DoubleField(null=True)
    #: When it is told of, if not at once: it has to last so long, came back soon after the last alert,
    #: or its alert did not arrive.
    alert_due_at = pw.DoubleField(null=True)
    #: When an alert was raised that has not arrived.
    alert_tried_at = pw.DoubleField(null=True)
    closed_at = pw.DoubleField(null=True)

    class Meta:
        table_name = "incidents"


class Sample(Table):
    """What ended in a minute, and what waited at its end. Null: not known, or of nothing."""

    #: Its begin, in seconds since the epoch.
    minute = pw.BigIntegerField(primary_key=True)
    completed = pw.BigIntegerField()
    failed = pw.BigIntegerField()
    latency_p50_seconds = pw.DoubleField(null=True)
    latency_p95_seconds = pw.DoubleField(null=True)
    latency_p99_seconds = pw.DoubleField(null=True)
    oldest_pending_seconds = pw.DoubleField(null=True)
    waiting = pw.BigIntegerField(null=True)
    active = pw.BigIntegerField(null=True)
    delayed = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "samples"


class Lease(Table):
    """Who may run a sweep, until when."""

    name = pw.TextField(primary_key=True)
    holder = pw.TextField()
    expires_at = pw.DoubleField()

    class Meta:
        table_name = "leases"


class Control(Table):
    """Facts that all processes share: paused, Redis's epoch, the last purge."""

    name = pw.TextField(primary_key=True)
    value = pw.TextField()
    updated_at = pw.DoubleField(default=time.time)

    class Meta:
        table_name = "control"


class Session(Table):
    """Somebody who is logged in to the dashboard. The token itself is in the browser's cookie alone."""

    #: SHA-256 of the token, hex.
    token_hash = pw.TextField(primary_key=True)
    name = pw.TextField()
    #: Says which password it was: with another one in the file, the session is over.
    password_tag = pw.TextField()
    csrf_token = pw.TextField()
    created_at = pw.DoubleField(default=time.time)
    expires_at = pw.DoubleField()

    class Meta:
        table_name = "sessions"

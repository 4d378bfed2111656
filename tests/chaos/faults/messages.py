"""Messages come twice, late or as rubbish; people do the same many times at once."""

from __future__ import annotations

import random
from uuid import uuid4

import redis

from pipeline import messages, replaying
from pipeline.credentials import issue
from pipeline.ledger import under_way
from pipeline.models import Batch, Credential, DeadLetter, Write
from pipeline.pausing import pause, resume
from pipeline.queues import NAMESPACE, messages_key
from tests.chaos.faults.waiting import at_once, last, waited
from tests.chaos.intake import REFUSED
from tests.chaos.site import ChaosSite
from tests.issuer import document

#: Rows whose messages come again, how often, and over which time.
DOUBLED, DOUBLED_BATCHES, TIMES, DOUBLED_SECONDS = 200, 20, 10, 1.5

#: Threads that do the same at once.
THREADS = 10

#: What is no message.
RUBBISH = (b"no json", b"[]", b"\xff\xfe", b'{"queue_name": "hash_verify"}', b"[" * 10_000)


def pause_and_resume(site: ChaosSite, chance: random.Random) -> str:
    """Somebody stops chain writing, and lets it go on when nothing is in flight any more."""
    pause("chaos")
    idle = waited(lambda: under_way.in_flight(None).count == 0)
    resume("chaos")
    return "nothing was in flight" if idle else "something was in flight"


def double_messages(site: ChaosSite, chance: random.Random) -> str:
    """For a while the newest rows' messages come again and again, whatever has become of those."""
    writes = [row[0] for row in Write.select(Write.id).order_by(Write.id.desc()).limit(DOUBLED).tuples()]
    newest = Batch.select(Batch.id, Batch.lane).order_by(Batch.id.desc()).limit(DOUBLED_BATCHES)
    batches = list(newest.tuples())
    for _ in range(TIMES):
        messages.verify_again(writes)
        for batch_id, lane in batches:
            messages.update(batch_id, lane)
        for lane in ("urgent", "normal"):
            messages.write(lane)
        for sweep in ("settle", "reconcile", "purge"):
            messages.send(sweep)
        last(DOUBLED_SECONDS / TIMES)
    return f"{TIMES} times those of {len(writes)} writes and {len(batches)} batches"


def send_rubbish(site: ChaosSite, chance: random.Random) -> str:
    """Something that is no message is in a queue, among the others."""
    queue, id_ = chance.choice(["hash_verify", "chain_write", "db_update"]), str(uuid4())
    with redis.Redis.from_url(site.valkey.url) as connection, connection.pipeline() as both:
        both.hset(messages_key(queue), id_, chance.choice(RUBBISH))
        both.rpush(f"{NAMESPACE}:{queue}", id_)
        both.execute()
    site.rubbish.add(id_)
    return f"in {queue}"


def hand_in_again(site: ChaosSite, chance: random.Random) -> str:
    """The newest of the credentials, by many threads."""
    with_document = Credential.select(Credential.id).where(Credential.document.is_null(False))
    names = [name for (name,) in with_document.order_by(Credential.created_at.desc()).limit(DOUBLED).tuples()]
    if not names:
        return "there was none"
    name = chance.choice(names)

    def again() -> str:
        try:
            return issue(name, document(int(name.removeprefix("c"))))
        except REFUSED:
            return ""

    jobs = set(at_once(THREADS, again)) - {""}
    return f"{name}: {len(jobs)} job"


def replay_at_once(site: ChaosSite, chance: random.Random) -> str:
    """One that can only fail again, by many threads."""
    letters = DeadLetter.select(DeadLetter.write).join(Write).where(DeadLetter.resolved_at.is_null())
    writes = [row[0] for row in letters.where(Write.leaf.is_null(False)).tuples()]
    if not writes:
        return "there was none"
    write_id = chance.choice(writes)

    def replay() -> int:
        try:
            return replaying.replay([write_id], resolution="replayed", actor="chaos")
        except REFUSED:
            return 0

    return f"{sum(at_once(THREADS, replay))} of {THREADS} replayed it"

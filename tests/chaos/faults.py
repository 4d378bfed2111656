"""What is done to a run: one function for each fault, which returns what it has done in some words.

Each returns only when the fault is over, or goes on by itself; what it waits for is a condition.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import redis

from pipeline.ledger import nonces
from pipeline.pausing import pause, resume
from pipeline.queues import HEARTBEAT_TIMEOUT_MS
from tests.chaos.site import ChaosSite
from tests.chaos.supervisor import Supervised, send

#: The longest wait for something that may not come, such as a transaction when all is idle.
PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05
#: The longest wait for workers that are being started again.
START_SECONDS = 20.0
DEEPEST_REORG = 6

Make = Callable[[ChaosSite, random.Random], str]


def waited(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it has come true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def living(masters: Sequence[Supervised]) -> list[int]:
    """The workers of these, once there are any."""
    waited(lambda: any(master.worker_pids() for master in masters), START_SECONDS)
    return [pid for master in masters for pid in master.worker_pids()]


def kill_worker(site: ChaosSite, chance: random.Random) -> str:
    """``kill -9``; its master then ends the others, and is started again."""
    pids = living(site.masters)
    hit = bool(pids) and send(chance.choice(pids), signal.SIGKILL)
    return f"one of {len(pids)}" if hit else "it was not there"


def stop_worker(site: ChaosSite, chance: random.Random) -> str:
    """SIGSTOP until Redis holds it for dead, then SIGCONT: it goes on with what others do by now."""
    stopped = [pid for pid in living([chance.choice(site.masters)]) if send(pid, signal.SIGSTOP)]
    end = time.monotonic() + HEARTBEAT_TIMEOUT_MS / 1000 + 1
    waited(lambda: time.monotonic() > end, seconds=60)
    return f"{sum(send(pid, signal.SIGCONT) for pid in stopped)} went on"


def terminate_master(site: ChaosSite, chance: random.Random) -> str:
    """SIGTERM, as at a deployment; it is started again."""
    master = chance.choice(site.masters)
    living([master])  # so that the fault before this one is not all that it meets
    return "sent" if master.signal_master(signal.SIGTERM) else "it was not there"


def kill_scheduler(site: ChaosSite, chance: random.Random) -> str:
    """``kill -9`` of periodiq; it is started again."""
    assert site.scheduler is not None
    return "sent" if site.scheduler.signal_master(signal.SIGKILL) else "it was not there"


def flush_redis(site: ChaosSite, chance: random.Random) -> str:
    """Somebody empties it."""
    with redis.Redis.from_url(site.valkey.url) as connection:
        keys = connection.dbsize()
        connection.flushall()
    return f"{keys} keys"


def restart_redis(site: ChaosSite, chance: random.Random) -> str:
    """``kill -9``, and a start with its append-only file."""
    site.valkey.kill()
    site.valkey.start()
    return "with its append-only file"


def restart_postgres(site: ChaosSite, chance: random.Random) -> str:
    """Open transactions are rolled back, all connections are cut."""
    site.postgres.restart()
    return "all connections cut"


def cut_replies(site: ChaosSite, chance: random.Random) -> str:
    """The node has the transaction, and nobody is told so."""
    times = chance.randint(1, 2)
    site.proxy.cut_reply("eth_sendRawTransaction", times)
    return f"{times} of eth_sendRawTransaction"


def refuse_requests(site: ChaosSite, chance: random.Random) -> str:
    """Connections are closed unread."""
    times = chance.randint(1, 4)
    site.proxy.refuse("*", times)
    return f"{times} requests"


def answer_status(site: ChaosSite, chance: random.Random) -> str:
    """A provider has too much to do."""
    status, times = chance.choice([429, 502, 503]), chance.randint(1, 4)
    site.proxy.answer_status("*", status, times, retry_after=1 if status == 429 else None)
    return f"{times} times {status}"


def truncate_replies(site: ChaosSite, chance: random.Random) -> str:
    """Half of an answer."""
    times = chance.randint(1, 3)
    site.proxy.truncate_reply("*", times, broken=chance.random() < 0.5)
    return f"{times} answers"


def reorganise(site: ChaosSite, chance: random.Random) -> str:
    """Blocks are taken away, others without transactions come in their place."""
    room = site.anvil.block_number - site.first_block
    depth = min(chance.randint(1, DEEPEST_REORG), room)
    if depth < 1:
        return "no block to take away"
    site.reorgs.append(depth)
    site.anvil.rpc("anvil_reorg", depth, [])
    site.anvil.mine()
    return f"{depth} blocks"


def drop_transaction(site: ChaosSite, chance: random.Random) -> str:
    """The node forgets what it has taken."""
    site.anvil.rpc("evm_setAutomine", False)
    try:
        if not waited(lambda: site.anvil.pool_size > 0):
            return "the pool was empty"
        content = site.anvil.rpc("txpool_content")["pending"]
        hashes = sorted(sent["hash"] for by_nonce in content.values() for sent in by_nonce.values())
        site.anvil.rpc("anvil_dropTransaction", chance.choice(hashes))
        return f"one of {len(hashes)}"
    finally:
        site.anvil.rpc("evm_setAutomine", True)
        site.anvil.mine()


def pause_and_resume(site: ChaosSite, chance: random.Random) -> str:
    """Somebody stops chain writing, and lets it go on when nothing is in flight any more."""
    pause("chaos")
    idle = waited(lambda: nonces.in_flight(None).count == 0)
    resume("chaos")
    return "nothing was in flight" if idle else "something was in flight"


FAULTS: Mapping[str, Make] = {
    "kill -9 of a worker": kill_worker,
    "worker stopped past its heartbeat": stop_worker,
    "SIGTERM": terminate_master,
    "kill -9 of the scheduler": kill_scheduler,
    "FLUSHALL": flush_redis,
    "kill -9 of Redis": restart_redis,
    "restart of PostgreSQL": restart_postgres,
    "reply cut after broadcast": cut_replies,
    "node refuses": refuse_requests,
    "node answers 429 or 5xx": answer_status,
    "node cuts its answer in half": truncate_replies,
    "reorg": reorganise,
    "transaction dropped": drop_transaction,
    "pause and resume": pause_and_resume,
}

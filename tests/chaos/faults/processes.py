"""Workers and scheduler are killed, stopped and ended; each is started again by its supervisor."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence

from pipeline.queues import HEARTBEAT_TIMEOUT_MS
from tests.chaos.faults.waiting import last, waited
from tests.chaos.site import ChaosSite
from tests.chaos.supervisor import Supervised, send
from tests.end_to_end.rosters.failpoints import NAMES

#: The longest wait for workers that are being started again.
START_SECONDS = 20.0


def living(masters: Sequence[Supervised]) -> list[int]:
    """The workers of these, once there are any."""
    waited(lambda: any(master.worker_pids() for master in masters), START_SECONDS)
    return [pid for master in masters for pid in master.worker_pids()]


def kill_worker(site: ChaosSite, chance: random.Random) -> str:
    """``kill -9``; its master then ends the others, and is started again."""
    pids = living(site.masters)
    hit = bool(pids) and send(chance.choice(pids), signal.SIGKILL)
    return f"one of {len(pids)}" if hit else "it was not there"


def kill_at_a_boundary(site: ChaosSite, chance: random.Random) -> str:
    """The next worker that gets there dies there; nobody waits for it."""
    name = chance.choice(NAMES)
    (site.orders / name).touch()
    return name


def stop_worker(site: ChaosSite, chance: random.Random) -> str:
    """SIGSTOP until Redis holds it for dead, then SIGCONT: it goes on with what others do by now."""
    stopped = [pid for pid in living([chance.choice(site.masters)]) if send(pid, signal.SIGSTOP)]
    last(HEARTBEAT_TIMEOUT_MS / 1000 + 1)
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

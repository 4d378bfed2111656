"""Whether the pipeline is alive: its sweeps, its scheduler, Redis, and what holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from pipeline import status
from pipeline.dashboard.data import why
from pipeline.dashboard.data.why import Pause
from pipeline.database import reading
from pipeline.ledger import incidents
from pipeline.ledger.sql import rows
from pipeline.metrics import shared
from pipeline.models import Control
from pipeline.reconciliation import EPOCH
from pipeline.settings import get_settings

#: Seconds for which a page waits for Redis.
TIMEOUT_SECONDS = 1.0

#: Rows of the table ``control`` that say when something last ran, in seconds since the epoch.
BEATS = ("last_purge", "last_settle", "last_reconcile", "scheduler_seen")


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident under way, and since when."""

    message: str
    opened_at: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """When things last ran (None: never), what is in the way, and whether Redis answers.

    ``workers``: how many worker processes have reported within the last seconds. None while Redis does
    not answer.
    """

    last_purge: float | None
    last_settle: float | None
    last_reconcile: float | None
    scheduler_seen: float | None
    pause: Pause | None
    held: str | None
    incidents: tuple[Trouble, ...]
    redis: bool
    #: Since when workers have swept here with this memory of Redis; None: no worker ever did.
    since: float | None
    workers: int | None


def pulse() -> Pulse:
    """All of it; waits for Redis for `TIMEOUT_SECONDS` at most. Raises `DatabaseUnavailable`."""
    workers = _workers()
    return _pulse(workers)


@reading
def _pulse(workers: int | None) -> Pulse:
    beats = dict(rows(Control.select(Control.name, Control.value).where(Control.name.in_(BEATS))))
    seen = {name: float(beats[name]) if name in beats else None for name in BEATS}
    begun = Control.select(Control.updated_at).where(Control.name == EPOCH)
    return Pulse(
        **seen,
        pause=why.pause(),
        held=status.hold_reason(),
        incidents=tuple(_trouble(incident) for incident in incidents.under_way()),
        redis=workers is not None,
        since=next((row[0] for row in rows(begun)), None),
        workers=workers,
    )


def _trouble(incident: Any) -> Trouble:
    return Trouble(incident.message, incident.opened_at)


def _workers() -> int | None:
    """None when Redis does not answer in time: that is what the page shows then."""
    try:
        with redis.Redis.from_url(
            get_settings().redis_dsn, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        ) as client:
            return shared.living_processes(client)
    except redis.RedisError:
        return None

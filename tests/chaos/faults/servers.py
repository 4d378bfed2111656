"""Redis forgets, stands still, is full; PostgreSQL cuts connections, and finds a deadlock."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import redis

from tests.chaos.faults.waiting import last
from tests.chaos.site import ChaosSite

#: Seconds for which Redis is full, and after which PostgreSQL ends a wait for a lock of ours.
FULL_SECONDS, LOCK_SECONDS = 2.0, 3

#: The pipeline locks a signer first, then batches, then credentials.
WRONG_ORDER = (
    "SELECT id FROM credentials ORDER BY id DESC LIMIT 50 FOR UPDATE",
    "SELECT id FROM writes WHERE state <> 'confirmed' ORDER BY id DESC LIMIT 50 FOR UPDATE",
    "SELECT id FROM batches WHERE state <> 'confirmed' ORDER BY id DESC FOR UPDATE",
    "SELECT id FROM signers FOR UPDATE",
)


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


def restart_redis_empty(site: ChaosSite, chance: random.Random) -> str:
    """``kill -9``, a while without it, and a start with nothing."""
    seconds = chance.uniform(0, 3)
    site.valkey.kill()
    last(seconds)
    shutil.rmtree(site.valkey.directory / "appendonlydir")
    site.valkey.start()
    return f"away for {seconds:.1f} s"


def pause_redis(site: ChaosSite, chance: random.Random) -> str:
    """It answers nobody for a while."""
    seconds = chance.uniform(0.5, 4)
    with redis.Redis.from_url(site.valkey.url) as connection:
        connection.client_pause(int(seconds * 1000), all=True)
    last(seconds)
    return f"for {seconds:.1f} s"


def cut_redis(site: ChaosSite, chance: random.Random) -> str:
    """It closes all connections, whatever is under way on them."""
    with redis.Redis.from_url(site.valkey.url) as connection:
        cut: Any = connection.client_kill_filter(_type="normal", skipme=True)
    return f"{cut} connections"


def fill_redis(site: ChaosSite, chance: random.Random) -> str:
    """It takes no writes for a while."""
    with redis.Redis.from_url(site.valkey.url) as connection:
        connection.config_set("maxmemory", 1)
        try:
            last(FULL_SECONDS)
        finally:
            connection.config_set("maxmemory", 0)
    return f"for {FULL_SECONDS:g} s"


def restart_postgres(site: ChaosSite, chance: random.Random) -> str:
    """Open transactions are rolled back, all connections are cut."""
    site.postgres.restart()
    return "all connections cut"


def cut_postgres(site: ChaosSite, chance: random.Random) -> str:
    """An administrator ends all sessions."""
    with _admin(site) as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return f"{len(ended)} sessions"


def deadlock(site: ChaosSite, chance: random.Random) -> str:
    """Somebody else's transaction holds rows that ours want, and wants those that ours hold."""
    with _admin(site) as admin:
        admin.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            with admin.transaction():
                for statement in WRONG_ORDER:
                    admin.execute(statement)
                    last(chance.uniform(0, 0.3))
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable) as exc:
            return f"theirs had {type(exc).__name__}"
    return "theirs got all"


@contextmanager
def _admin(site: ChaosSite) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(str(site.variables["database_url"]), autocommit=True) as admin:
        yield admin

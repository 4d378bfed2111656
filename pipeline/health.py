"""Whether this container can do its work: ``python -m pipeline.health`` exits 0 when it can.

Container health checks call it, so it is quick and asks only what every process of ours needs:
Redis and SQL. The node is left out: workers start and wait without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

import peewee
import redis

from pipeline.database import database
from pipeline.errors import DatabaseUnavailable, SettingsError
from pipeline.settings import Settings, get_settings

#: How long Redis may take for its answer, in seconds.
TIMEOUT_S = 3
#: The same for a node: to connect, and to answer.
NODE_TIMEOUT_S = (1.0, 2.0)


def ask_redis(settings: Settings) -> None:
    """Raises `redis.RedisError` when Redis does not answer."""
    with redis.Redis.from_url(
        settings.redis_dsn, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    ) as client:
        client.ping()


def ask_database(settings: Settings) -> None:
    """Raises `DatabaseUnavailable` or peewee's error when SQL does not answer."""
    database.execute_sql("SELECT 1")


def ask_node(settings: Settings) -> None:
    """Raises `ChainError` when no node answers. Containers do not ask this: see above."""
    from pipeline.chain.rpc import RpcClient

    RpcClient(settings.rpc_urls, NODE_TIMEOUT_S).call("eth_chainId")


CHECKS: Mapping[str, Callable[[Settings], None]] = {"redis": ask_redis, "database": ask_database}


def faults(settings: Settings) -> Iterator[str]:
    """One line for each server that does not answer, without its URL."""
    for name, ask in CHECKS.items():
        try:
            ask(settings)
        except (redis.RedisError, peewee.PeeweeException, DatabaseUnavailable) as exc:
            yield f"{name}: {type(exc).__name__}"


def main() -> int:
    """Print what is wrong to standard error; 0 when nothing is."""
    try:
        found = list(faults(get_settings()))
    except SettingsError as exc:
        found = [exc.message]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

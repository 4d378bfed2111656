"""What a run uses: CPU seconds of process trees, transactions and WAL of PostgreSQL, commands of Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import psutil
import psycopg
import redis

#: Ids are given to transactions that write, and to their savepoints; both figures are of the whole server.
WRITTEN = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_lsn() - '0/0'"


@dataclass(frozen=True)
class Usage:
    """All since the start of the servers; `since` makes a run's out of two."""

    #: By the name of a group of processes.
    cpu_seconds: Mapping[str, float]
    transactions: int
    wal_bytes: int
    redis_commands: int

    @classmethod
    def now(
        cls, groups: Mapping[str, Sequence[int]], admin: psycopg.Connection[Any], client: redis.Redis
    ) -> Self:
        """``groups``: ids of the first processes of trees."""
        cpu = {name: sum(map(tree_cpu_seconds, roots)) for name, roots in groups.items()}
        [(transactions, wal_bytes)] = admin.execute(WRITTEN)
        information: Any = client.info("stats")
        return cls(cpu, int(transactions), int(wal_bytes), int(information["total_commands_processed"]))

    def since(self, earlier: Usage) -> Usage:
        """What was used between the two."""
        return Usage(
            {name: self.cpu_seconds[name] - before for name, before in earlier.cpu_seconds.items()},
            self.transactions - earlier.transactions,
            self.wal_bytes - earlier.wal_bytes,
            self.redis_commands - earlier.redis_commands,
        )


def tree_cpu_seconds(root: int) -> float:
    """User and system time of a process and its descendants, those that have ended included."""
    first = psutil.Process(root)
    total = 0.0
    for process in [first, *first.children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])  # user and system, its own and of children that were reaped
        except psutil.NoSuchProcess:
            continue  # its parent has its times now
    return total

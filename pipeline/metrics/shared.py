"""The counters of all processes, added up in Redis: a worker that restarts takes nothing away.

Each process adds what it has counted since its last delivery, in one call. A delivery has a number,
and Redis the last one of each process: what was perhaps lost is sent again and counts once. A
process that is killed takes with it what it had not delivered, `pipeline.middleware.metrics` says
how much that is. A wipe of Redis begins all counters anew, as Prometheus expects of a restart.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import redis

from pipeline.metrics import recorder
from pipeline.metrics.recorder import Field

#: The hash from fields to sums, and the sorted set of processes by when they last reported.
COUNTERS = "pipeline:metrics"
PROCESSES = "pipeline:metrics:processes"
#: What the key of a process's last delivery begins with, and seconds for which it is remembered.
DELIVERED = "pipeline:metrics:delivered:"
REMEMBERED_SECONDS = 604_800

#: Seconds after which a process that does not report counts as gone.
ALIVE_SECONDS = 15

#: KEYS: the three of above. ARGV: process, number of the delivery, seconds, then fields and amounts.
DELIVER = """
local time = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[2], time, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', time - 3600)
if #ARGV == 3 or tonumber(ARGV[2]) <= tonumber(redis.call('GET', KEYS[3]) or 0) then
    return 0
end
for i = 4, #ARGV, 2 do
    redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Delivery:
    """What one process delivers. One thread at a time may use it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._process = client, uuid4().hex
        self._script: Any = client.register_script(DELIVER)
        self._number = 0
        self._arguments: list[str] = []

    def deliver(self) -> None:
        """Add what was counted since the last time, and say that this process is alive.

        Raises `redis.RedisError`: then the next call sends the same once more, and the rest after it.
        """
        again = bool(self._arguments)
        self._send()
        if again:
            self._send()

    def _send(self) -> None:
        if not self._arguments:
            self._number += 1
            for found, amount in recorder.take().items():
                self._arguments += [json.dumps(found), repr(amount)]
        keys = [COUNTERS, PROCESSES, DELIVERED + self._process]
        self._script(keys=keys, args=[self._process, self._number, REMEMBERED_SECONDS, *self._arguments])
        self._arguments = []

    def leave(self) -> None:
        """Deliver for the last time. Raises `redis.RedisError`."""
        self.deliver()
        self._client.zrem(PROCESSES, self._process)


def read(client: redis.Redis) -> dict[Field, float]:
    """The sums of all processes. Raises `redis.RedisError`."""
    found: Any = client.hgetall(COUNTERS)
    return {tuple(json.loads(name)): float(amount) for name, amount in found.items()}


def living_processes(client: redis.Redis) -> int:
    """How many worker processes have reported lately. Raises `redis.RedisError`."""
    seconds: Any = client.time()
    return int(client.zcount(PROCESSES, seconds[0] - ALIVE_SECONDS, "+inf"))

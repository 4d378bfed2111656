"""Dramatiq results of jobs: what ``message.get_result(block=True)`` of a sent message waits for.

A result is stored when the *job* ends, not when its first message does, and only for writes
that had a message of their own: what bulk intake queued is asked for by its status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.results import ResultBackend
from dramatiq.results.result import wrap_exception, wrap_result

if TYPE_CHECKING:
    from dramatiq.results.backends.redis import RedisBackend
    from redis import Redis

NAMESPACE = "dramatiq-results"

#: The actor, and its queue, under which a result is kept: those of the message that `.send()` returns,
#: whichever queue the job's messages take.
ACTOR = QUEUE = "hash_verify"


class JobResults(ResultBackend):
    """Dramatiq's Redis backend, connected at first use."""

    def __init__(self) -> None:
        super().__init__(namespace=NAMESPACE, use_namespace_prefix_keys=True)

    @cached_property
    def redis(self) -> RedisBackend:
        """The real backend."""
        from dramatiq.results.backends.redis import RedisBackend

        from pipeline.redis_client import connect

        client = connect(answer_timeout_seconds=None)
        return RedisBackend(client=client, namespace=NAMESPACE, use_namespace_prefix_keys=True)

    @cached_property
    def _client(self) -> Redis:
        """Not the one that waits for results for as long as it takes."""
        from pipeline.redis_client import connect

        return connect()

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if "_client" in self.__dict__:
            self.__dict__.pop("_client").close()
        if "redis" in self.__dict__:
            self.__dict__.pop("redis").client.close()

    def get_result(
        self, message: dramatiq.Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Any:
        """The job's result; ``timeout`` in milliseconds. Raises as Dramatiq's backend does."""
        return self.redis.get_result(message, block=block, timeout=timeout)

    def _store(self, message_key: str, result: Any, ttl: int) -> None:
        self.redis._store(message_key, result, ttl)

    def keep(self, values: Mapping[str, Any], *, ttl_ms: int) -> None:
        """Store the ends of jobs by job id, in one round trip.

        A value is what ``get_result`` returns, or an exception, for which it raises ``ResultFailure``.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for job_id, value in values.items():
                key = self._key(job_id)
                wrapped = wrap_exception(value) if isinstance(value, Exception) else wrap_result(value)
                pipe.delete(key)
                pipe.lpush(key, self.encoder.encode(wrapped))
                pipe.pexpire(key, ttl_ms)
            pipe.execute()

    def forget(self, job_ids: Iterable[str]) -> None:
        """Remove the results of these jobs."""
        keys = [self._key(job_id) for job_id in job_ids]
        if keys:
            self._client.delete(*keys)

    def erase(self, job_ids: Iterable[str]) -> None:
        """Remove them from Redis's files, too; see `pipeline.redis_files`."""
        from pipeline import redis_files
        from pipeline.redis_client import connect

        self.forget(job_ids)
        with connect() as client:
            redis_files.renew(client)

    def _key(self, job_id: str) -> str:
        sent: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs={}, options={}, message_id=job_id
        )
        return self.build_message_key(sent)

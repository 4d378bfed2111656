"""The actor class of ``hash_verify``: `.send()` stores the row first, then sends."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import dramatiq


class QueueingActor(dramatiq.Actor[Any, Any]):
    """Validates, stores and de-duplicates at `.send()`, and raises to the caller what is wrong."""

    def send_with_options(
        self,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        delay: timedelta | int | None = None,
        priority: str = "normal",
        **options: Any,
    ) -> dramatiq.Message[Any]:
        """Queue a write; returns its message, whose ``message_id`` is the job id.

        ``delay`` in milliseconds, ``priority`` ``"normal"`` or ``"urgent"``. Inside an open
        transaction of the project's database the message leaves after the commit. Raises
        `InvalidInput` with its subclasses, `UnknownCredential`, `ConflictingWrite`.
        """
        from pipeline.intake import WriteRequest
        from pipeline.queueing import queue_one
        from pipeline.settings import get_settings

        parts = inspect.signature(self.fn).bind(*args, **(kwargs or {})).arguments
        request = WriteRequest.of(
            **parts, priority=priority, cid_digest_check=get_settings().cid_digest_check
        )
        message = self.message_with_options(
            args=(request.credential_id, request.data_hash, request.ipfs_cid), **options
        )
        delay_ms = int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else delay
        return queue_one(message, request, delay_ms=delay_ms)

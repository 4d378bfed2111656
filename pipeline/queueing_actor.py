"""The actor class of ``hash_verify``: `.send()` stores the row first, then sends."""

from __future__ import annotations

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

        ``delay`` in milliseconds, at most a year, ``priority`` ``"normal"`` or ``"urgent"``. Inside an open
        transaction of the project's database the message leaves after the commit. Raises
        `InvalidInput` with its subclasses, `UnknownCredential`, `ConflictingWrite`.
        """
        from pipeline.intake import WriteRequest, check_delay
        from pipeline.middleware.shapes import signature
        from pipeline.queueing import queue_one
        from pipeline.settings import get_settings

        parts = signature(self.fn).bind(*args, **(kwargs or {})).arguments
        request = WriteRequest.of(
            **parts, priority=priority, cid_digest_check=get_settings().cid_digest_check
        )
        message = self.message_with_options(
            args=(request.credential_id, request.data_hash, request.ipfs_cid), **options
        )
        return queue_one(message, request, delay_ms=check_delay(delay))

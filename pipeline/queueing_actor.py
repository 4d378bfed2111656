"""The actor class of ``hash_verify``: `.send()` stores the row first, then sends."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import dramatiq

#: Arguments of a `.send()` that leaves none out; they need not be matched to their names.
PARTS = 3


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
        intake, shapes, queueing, settings = _rest()
        if kwargs or len(args) != PARTS:
            args = shapes.signature(self.fn).bind(*args, **(kwargs or {})).args
        check = settings.get_settings().cid_digest_check
        request = intake.WriteRequest.of(*args, priority=priority, cid_digest_check=check)
        message = self.message_with_options(
            args=(request.credential_id, request.data_hash, request.ipfs_cid), **options
        )
        queued: dramatiq.Message[Any] = queueing.queue_one(
            message, request, delay_ms=intake.check_delay(delay)
        )
        return queued


@cache
def _rest() -> tuple[Any, ...]:
    """The modules that intake takes, loaded by the first `.send()`: to import them takes 0.5 s."""
    from pipeline import intake, queueing, settings
    from pipeline.middleware import shapes

    return intake, shapes, queueing, settings

"""Messages of single writes that were fetched together are one message to the worker.

What they ask for costs a few statements however many there are, and each alone as many. They stay what
they are in Redis until all are acknowledged in one call: who dies in between leaves each of them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy

#: The actor whose messages are merged, and the one that takes them together.
SINGLE, TOGETHER = "hash_verify", "hash_verify_jobs"

#: Messages that become one at most.
MOST = 500

#: Says of a message that it is worked on by itself.
ALONE = "alone"

#: What an encoded message of that actor has in it.
_OF_SINGLE = f'"actor_name":"{SINGLE}"'.encode()

#: Options that a message has which was sent without any.
PLAIN_OPTIONS = frozenset({"redis_message_id"})


class MergedMessage(MessageProxy):
    """One message in place of its ``members``. It has no id in Redis: one that is retried gets its own."""

    def __init__(self, members: Sequence[dramatiq.Message[Any]]) -> None:
        jobs = [[member.message_id, *member.args] for member in members]
        super().__init__(
            dramatiq.Message(
                queue_name=members[0].queue_name, actor_name=TOGETHER, args=(jobs,), kwargs={}, options={}
            )
        )
        self.members = list(members)


def can_be_merged(message: dramatiq.Message[Any]) -> bool:
    """Whether it is one write's, as `.send()` sends it: with nothing that only its own handling can give it.

    One that was tried before, or asks for something of its own, stays alone.
    """
    return (
        message.actor_name == SINGLE
        and message.options.keys() <= PLAIN_OPTIONS
        and not message.kwargs
        and 2 <= len(message.args) <= 3
    )


def may_be_merged(body: bytes) -> bool:
    """Whether an encoded message looks like one of those; to read it costs more."""
    return _OF_SINGLE in body


def redis_ids(message: MessageProxy) -> list[str]:
    """Under which ids Redis has what this message stands for."""
    members = message.members if isinstance(message, MergedMessage) else [message]
    return [member.options["redis_message_id"] for member in members]

"""Messages whose arguments their actor can't take: never run, never retried."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import UUID

import dramatiq

logger = logging.getLogger(__name__)

#: The actor whose messages come from others: what is wrong with one becomes a dead letter.
INTAKE = "hash_verify"

#: The largest id that the databases can hold.
MAX_ID = 2**63 - 1


def is_id(value: object) -> bool:
    """Whether it can be the id of a row."""
    return type(value) is int and 0 < value <= MAX_ID


def are_ids(value: object) -> bool:
    """Whether it is a list of such ids."""
    return isinstance(value, list) and all(map(is_id, value))


def are_jobs(value: object) -> bool:
    """Whether it is a list of jobs: of each its id, then two or three arguments of `INTAKE`."""
    return isinstance(value, list) and all(map(is_job, value))


def is_job(value: object) -> bool:
    """Whether it is one of those."""
    return isinstance(value, list) and 3 <= len(value) <= 4 and isinstance(value[0], str)


def is_id_or_ids(value: object) -> bool:
    """Whether it is one of these, or a list."""
    return is_id(value) or are_ids(value)


def is_bool(value: object) -> bool:
    """Whether it is true or false, and nothing that only counts as one."""
    return isinstance(value, bool)


def is_uuid(value: object) -> bool:
    """Whether it is a UUID as text."""
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


#: What the only argument of an internal actor must be. ``hash_verify`` checks its own.
RULES: dict[str, Callable[[object], bool]] = {
    "hash_verify_jobs": are_jobs,
    "hash_verify_many": are_ids,
    "hash_verify_urgent": are_ids,
    "db_update": is_id_or_ids,
    "dead_letter": is_uuid,
    "settle": is_bool,
}


class Shapes(dramatiq.Middleware):
    """Fails what does not fit before its actor runs; Dramatiq keeps it in Redis for a week.

    The internal actors' messages carry ids only: `reconcile` sends again what is needed.
    """

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Bind the arguments as the call will, and look at those of internal actors."""
        actor = broker.actors.get(message.actor_name)
        fault = misfit(actor, message) if actor else None
        if actor is None or fault is None:
            return
        if actor.actor_name == INTAKE:
            _refuse(broker, actor, message, fault)
        else:
            logger.error("a message of %s was dropped: %s", actor.actor_name, fault)
        message.fail()


def misfit(actor: dramatiq.Actor[Any, Any], message: dramatiq.MessageProxy) -> str | None:
    """What is wrong with a message's arguments, without their content; None when nothing is."""
    try:
        bound = signature(actor.fn).bind(*message.args, **message.kwargs)
    except TypeError:
        return f"its arguments are not those of {actor.actor_name}{signature(actor.fn)}"
    rule = RULES.get(actor.actor_name)
    if rule is None or all(map(rule, bound.arguments.values())):
        return None
    return f"an argument is none that {actor.actor_name} takes"


@lru_cache(maxsize=64)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    """The parameters of an actor's function, without the types."""
    whole = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in whole.parameters.values()]
    return inspect.Signature(bare)


def _refuse(
    broker: dramatiq.Broker, actor: dramatiq.Actor[Any, Any], message: dramatiq.MessageProxy, fault: str
) -> None:
    """A dead letter with what parts there are; without SQL the same message later, which is no attempt."""
    from pipeline.malformed import LOOK_AGAIN_MS, refuse

    names = signature(actor.fn).parameters
    parts = {
        **dict(zip(names, message.args, strict=False)),
        **{name: value for name, value in message.kwargs.items() if name in names},
    }
    if not refuse(message.message_id, f"a message: {fault}", stage=INTAKE, parts=parts):
        broker.enqueue(message.copy(), delay=LOOK_AGAIN_MS)

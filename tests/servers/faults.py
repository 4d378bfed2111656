"""What can happen to requests between a client and a node; made by the methods of `FaultProxy`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers.upstream import Answer, Upstream

#: A fault for this "method" meets every request.
ANY = "*"

When = Callable[[Sequence[Any]], bool]


@dataclass(eq=False)
class Fault:
    """What happens to the requests of one method; made by the methods of `FaultProxy`."""

    method: str
    #: How many requests it meets (None: all), after it has let ``skip`` of them pass.
    times: int | None
    skip: int
    when: When | None
    #: How many it has met so far.
    used: int = 0
    #: Set when it meets the first one; for a reply that is held: when the node has answered.
    happened: threading.Event = field(default_factory=threading.Event)
    #: Until then a held reply is held.
    released: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Meet no more requests, and let go what is held."""
        self.times = self.used
        self.released.set()

    def takes(self, requests: Sequence[Answer]) -> bool:
        """Whether it meets one of these, which counts as one."""
        if self.times is not None and self.used >= self.times:
            return False
        if not any(map(self._fits, requests)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.used += 1
        return True

    def _fits(self, request: Answer) -> bool:
        params = request.get("params", [])
        return self.method in (ANY, request["method"]) and (self.when is None or self.when(params))


@dataclass(eq=False)
class Refusal(Fault):
    """No node is asked: an HTTP status, or (None) the connection is closed."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class LateReply(Fault):
    """The node has answered, the client waits: for so long, or (None) until `Fault.end`."""

    seconds: float | None = None


@dataclass(eq=False)
class LostReply(Fault):
    """The node has answered, the client gets ``share`` of the bytes; ``broken``: and a closed connection."""

    share: float = 0.0
    broken: bool = True


@dataclass(eq=False)
class Replaced(Fault):
    """Another answer in place of the node's, which is asked all the same where ``forward``."""

    answer: Answer = field(default_factory=dict)
    forward: bool = False


@dataclass
class Plan:
    """What happens to one HTTP request."""

    upstream: Upstream
    refusal: Refusal | None = None
    replaced: Sequence[Replaced | None] = ()
    late: LateReply | None = None
    lost: LostReply | None = None

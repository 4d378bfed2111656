"""What issuers do meanwhile: hand in, in bulk and singly, some of it urgent, and again when refused."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.database import AWAY, close_connection
from pipeline.errors import BrokerUnavailable
from pipeline.models import Credential
from tests.issuer import OTHER_HASH, document

#: What an issuer may be told while a server is away: to be handed in again.
REFUSED = (*AWAY, BrokerUnavailable)

#: How long an issuer waits before it hands in again, and how often it looks whether there is room.
PAUSE_SECONDS = 0.1

#: Credentials that are handed in together at most: in a small run fewer, so that faults come in between.
LARGEST_PART, PARTS = 60, 20
SINGLE, WRONG, URGENT = 0.3, 0.01, 0.1


@dataclass
class Intake:
    """Hands in ``count`` credentials, never more than ``window`` ahead of what is settled.

    None while as many as the ``gate`` are handed in and settled, both counted together.
    """

    seed: int
    count: int
    window: int
    settled: int = 0
    gate: float = math.inf
    accepted: list[str] = field(default_factory=list)
    #: Those whose hash is not that of the stored row: they have to fail.
    wrong: set[str] = field(default_factory=set)
    refusals: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until all are accepted, or it is stopped. To be called in a thread."""
        try:
            for part, priority, is_wrong in self._parts():
                while self._is_to_wait() and not self.stopped.is_set():
                    self.stopped.wait(PAUSE_SECONDS)
                if self.stopped.is_set():
                    return
                while not self._hand_in(part, priority, is_wrong):
                    self.refusals += 1
                    if self.stopped.wait(PAUSE_SECONDS):
                        return
        finally:
            close_connection()

    def _is_to_wait(self) -> bool:
        accepted, settled = len(self.accepted), self.settled
        return accepted - settled > self.window or accepted + settled >= self.gate

    def _parts(self) -> Iterator[tuple[range, str, bool]]:
        chance = random.Random(f"{self.seed}/intake")
        largest = max(2, min(LARGEST_PART, self.count // PARTS))
        start = 0
        while start < self.count:
            is_wrong = chance.random() < WRONG
            size = 1 if is_wrong or chance.random() < SINGLE else chance.randint(2, largest)
            part = range(start, min(start + size, self.count))
            yield part, "urgent" if chance.random() < URGENT else "normal", is_wrong
            start = part.stop

    def _hand_in(self, part: range, priority: str, is_wrong: bool) -> bool:
        from pipeline.credentials import issue, sync

        names = [f"c{number}" for number in part]
        try:
            if is_wrong:
                self._hand_in_wrong(names[0])
            elif len(names) == 1:
                issue(names[0], document(part.start), priority=priority)
            else:
                sync(
                    {"credential_id": name, "document": document(number), "priority": priority}
                    for name, number in zip(names, part, strict=True)
                )
        except REFUSED:
            return False
        self.accepted += names
        return True

    def _hand_in_wrong(self, name: str) -> None:
        from pipeline.actors import hash_verify

        Credential.insert(id=name, metadata="{}", data_hash=OTHER_HASH).on_conflict_ignore().execute()
        hash_verify.send(name, "cd" * 32)
        self.wrong.add(name)

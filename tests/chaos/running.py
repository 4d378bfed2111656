"""One run: credentials go in, faults come as they get on, and it ends when nothing is under way."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline import status
from pipeline.database import AWAY
from pipeline.models import Batch, BatchState, DeadLetter
from tests.chaos.faults import FAULTS
from tests.chaos.intake import Intake
from tests.chaos.schedule import Planned
from tests.chaos.site import ChaosSite

POLL_SECONDS = 0.1
#: A chain has blocks whether or not anybody sends: what is stuck is known by them.
BLOCK_SECONDS = 1.0
#: So long nothing may get on; and so long a reorg may go unnoticed once nothing else is under way. Of a
#: broken run something has to be seen, and not how it ends.
STALL_SECONDS, NOTICE_SECONDS = 90.0, 30.0
BROKEN_STALL_SECONDS, BROKEN_NOTICE_SECONDS = 15.0, 8.0
#: The longest wait for something that a fault can hit: intake may be refused by the fault before.
WORK_SECONDS = 1.0
#: Credentials that are handed in before others are settled, at least.
SMALLEST_WINDOW = 60


class Breach(Exception):
    """Something did not hold."""


@dataclass(frozen=True)
class Happened:
    """A fault that came: at which progress, after how many seconds, and what it did."""

    planned: Planned
    handed_in: int
    settled: int
    seconds: float
    detail: str


@dataclass
class Run:
    """The faults of a schedule, at a site, while an intake hands in."""

    site: ChaosSite
    intake: Intake
    schedule: Sequence[Planned]
    broken: bool = False
    timeline: list[Happened] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    _mined_at: float = 0.0
    _counts: dict[str, int] = field(default_factory=dict)
    _got_on_at: float = field(default_factory=time.monotonic)
    _progress: int = 0
    _is_all_in: bool = False

    def until_idle(self) -> None:
        """Until all faults have come and nothing is under way. Raises `Breach` when it does not get on."""
        with ThreadPoolExecutor(1) as pool:
            handing_in = pool.submit(self.intake.run)
            try:
                self._go_on(handing_in)
                handing_in.result()
            finally:
                self.intake.stopped.set()

    def _go_on(self, handing_in: Future[None]) -> None:
        waiting = list(self.schedule)
        self._let_in(waiting)
        while waiting or not handing_in.done() or not self._is_idle():
            self._look()
            while waiting and waiting[0].at <= self._progress:
                due = waiting.pop(0)
                self._let_in(waiting)
                self._make(due)
                self._look()
            if handing_in.done():
                handing_in.result()
                self._is_all_in = not waiting
            time.sleep(POLL_SECONDS)

    def _let_in(self, waiting: Sequence[Planned]) -> None:
        """As many as go in until the next fault, and during this one: each is to have something to hit."""
        share = (2 * self.intake.count - self._progress) / (len(waiting) + 1)
        self.intake.gate = max(waiting[0].at, self._progress + share) if waiting else math.inf

    def _look(self) -> None:
        """How far it is, and one more block when it is time."""
        now = time.monotonic()
        if now - self._mined_at > BLOCK_SECONDS:
            self._mined_at = now
            self.site.anvil.mine()
        counts, before = self._read_counts() or self._counts, self._counts
        if counts:
            self._counts = counts
            # A reorg takes some back, which is no way back for the progress.
            self.intake.settled = max(self.intake.settled, counts["completed"] + counts["failed"])
        progress = len(self.intake.accepted) + self.intake.settled
        if counts != before or progress != self._progress:
            self._got_on_at = now
        self._progress = progress
        self._look_for_a_stall(now - self._got_on_at)

    def _look_for_a_stall(self, seconds: float) -> None:
        """Nothing has got on for so long."""
        stall, notice = STALL_SECONDS, NOTICE_SECONDS
        if self.broken:
            stall, notice = BROKEN_STALL_SECONDS, BROKEN_NOTICE_SECONDS
        if seconds > notice and self._is_all_in and self._is_settled() and not self._blocks_are_there():
            raise Breach(f"all is settled, and for {notice:g} s some of it has been in no block of the chain")
        if seconds > stall:
            raise Breach(f"nothing got on for {stall:g} s: {self._counts}")

    def _read_counts(self) -> dict[str, int] | None:
        try:
            return dict(status.counts())
        except AWAY:
            return None

    def _is_idle(self) -> bool:
        """Nothing is under way, and no reorg is unnoticed."""
        return self._is_settled() and self._blocks_are_there()

    def _is_settled(self) -> bool:
        """Nothing is pending, and nothing that failed goes out once more by itself."""
        counts = self._read_counts()
        if counts is None or sum(counts[name] for name in ("waiting", "active", "delayed")):
            return False
        again = DeadLetter.select().where(DeadLetter.resolved_at.is_null(), DeadLetter.replayable)
        return not again.exists()

    def _blocks_are_there(self) -> bool:
        """Whether what is confirmed is in blocks of the chain: a sweep may not have seen a reorg yet."""
        places = Batch.select(Batch.block_number, Batch.block_hash).where(Batch.state == BatchState.CONFIRMED)
        return all(
            number is not None
            and (self.site.anvil.rpc("eth_getBlockByNumber", hex(number), False) or {}).get("hash")
            == block_hash
            for number, block_hash in places.distinct().tuples()
        )

    def _make(self, planned: Planned) -> None:
        self._await_work()
        handed_in, settled = len(self.intake.accepted), self.intake.settled
        begin = time.monotonic() - self.begun
        detail = FAULTS[planned.kind](self.site, planned.chance())
        self.timeline.append(Happened(planned, handed_in, settled, begin, detail))

    def _await_work(self) -> None:
        """Until something is under way that the fault can hit, if there is anything left."""
        deadline = time.monotonic() + WORK_SECONDS
        while len(self.intake.accepted) == self.intake.settled < self.intake.count:
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS / 10)

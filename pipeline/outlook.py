"""What who writes has seen of chain and wallet in his turn, and believes for a moment.

A write asks whether chain, registry, role and wallet are what they should be. Where blocks come at once
there are twenty writes a second, and the answer to one holds for the next: what changes within
`BELIEVED_SECONDS` after it was asked could as well have changed while the bytes were on their way. A role
that is lost then lets a transaction revert, and the batch is written again; of a wallet that somebody else
empties the node tells. What is signed meanwhile is taken off what the balance pays for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from pipeline import holding
from pipeline.chain.client import ChainClient, chain_client
from pipeline.holding import Fit
from pipeline.ledger import under_way
from pipeline.settings import get_settings

#: For so long an answer of the guards is believed within a turn.
BELIEVED_SECONDS = 0.25


class Outlook:
    """One turn's, and one thread's. The first write of a turn always asks."""

    def __init__(self) -> None:
        #: The chain has used all nonces below it, whatever the sweeps have noted so far.
        self.used_below = 0
        #: How many nonces are in flight, as far as it is known: where a sweep was made since, it is not.
        self._in_flight: int | None = None
        self._fit: Fit | None = None
        self._asked_at = 0.0
        self._reconnects = 0
        self._asked_for_a_sweep_at = time.monotonic()

    def fit(self, chain: ChainClient) -> Fit:
        """What the guards say. Raises as `pipeline.holding.check` does, and then believes nothing."""
        now = time.monotonic()
        known, self._fit = self._fit, None
        holds = now - self._asked_at < BELIEVED_SECONDS and self._reconnects == chain.reconnects
        if known is None or known.affordable <= 0 or not holds:
            # Both are noted before: an answer that came with a change of node is believed only once.
            self._asked_at, self._reconnects = now, chain.reconnects
            known = holding.check(chain, fresh=True, used_below=self.used_below)
            self._in_flight = known.in_flight
        self._fit = known
        return known

    def signed(self, count: int) -> None:
        """So many more are on their way, and have to be paid."""
        if self._fit is not None:
            self._fit = replace(
                self._fit, in_flight=self._fit.in_flight + count, affordable=self._fit.affordable - count
            )
        if self._in_flight is not None:
            self._in_flight += count

    def room(self) -> int | None:
        """How many more may be in flight; None in mock mode, where there is no limit."""
        settings = get_settings()
        if settings.blockchain_mock_enabled:
            return None
        if self._in_flight is None:
            signer = chain_client().signer_address
            self._in_flight = under_way.in_flight(settings.blockchain_chain_id, signer, self.used_below).count
        return settings.blockchain_max_in_flight - self._in_flight

    def forget(self) -> None:
        """Nothing could be written for a while: what was believed is asked again."""
        self._fit = None

    def asks_for_a_sweep(self, after_seconds: float) -> bool:
        """Whether the last one was asked for so long ago; then the next is, now."""
        now = time.monotonic()
        if now - self._asked_for_a_sweep_at <= after_seconds:
            return False
        self._asked_for_a_sweep_at = now
        return True

    def swept(self) -> None:
        """A sweep may have noted that something is mined: what is in flight has to be counted again."""
        self._in_flight = None

    def look_at_nonces(self, chain: ChainClient, waiting: Sequence[int]) -> None:
        """Ask how many of the nonces ``waiting`` for a sweep the chain has used; the rest is in flight.

        ``waiting`` are sorted. Where more is used than we gave out, somebody else has the key: that is the
        sweep's to judge.
        """
        mined = chain.transaction_counts()[0]
        self.used_below = mined if waiting and mined <= waiting[-1] + 1 else 0
        self._in_flight = sum(nonce >= self.used_below for nonce in waiting)

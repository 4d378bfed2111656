"""Which faults come when: drawn from a seed, and due by progress, never by the clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: The last fault comes when this part of the whole progress is made: something has to be left to do.
LAST = 0.95


@dataclass(frozen=True)
class Planned:
    """A fault, due when so many credentials were handed in and settled, both counted together."""

    number: int
    at: int
    kind: str
    seed: str

    def chance(self) -> random.Random:
        """What the fault draws its own choices from."""
        return random.Random(self.seed)


def plan(seed: int, credentials: int, faults: int, kinds: Sequence[str]) -> list[Planned]:
    """``faults`` of these kinds, in the order in which they are due."""
    chance = random.Random(seed)
    last = max(1, int(2 * credentials * LAST))
    due = sorted(chance.randint(1, last) for _ in range(faults))
    rounds = [kind for _ in range(-(-faults // len(kinds))) for kind in chance.sample(kinds, len(kinds))]
    return [
        Planned(number, at, kind, f"{seed}/{number}")
        for number, (at, kind) in enumerate(zip(due, rounds, strict=False), start=1)
    ]

"""What `tests.benchmarks.scale_out` compares: how many processes, on which chain, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline import messages

#: No chain at all; anvil with a block every `tests.benchmarks.site.BLOCK_SECONDS`; a block for each
#: transaction, at once.
MOCK, BLOCKS, AUTOMINE = "mock", "anvil, blocks on a clock", "anvil, automine"

#: Slots a second that are more than is ever asked for: the limiter is in use, and is no wall.
NO_WALL = {"RATE_LIMIT_MAX": "10000"}
ALONE = {"BATCH_MAX_SIZE": "1"}
IN_FLIGHT = {"BLOCKCHAIN_MAX_IN_FLIGHT": "128"}


@dataclass(frozen=True)
class Configuration:
    """One way to run the workers. ``share``: the part of all credentials that keeps it busy as long."""

    name: str
    processes: int = 1
    #: Dramatiq masters, each in a folder and an environment of its own, as on machines of their own.
    masters: int = 1
    threads: int = 5
    chain: str = MOCK
    share: float = 1.0
    #: Credentials that go before, unmeasured and a message each: what a process loads, it loads once.
    warm_up: int = 600
    settings: Mapping[str, str] = field(default_factory=lambda: NO_WALL)
    #: Settings of the database, by PostgreSQL's names.
    postgresql: Mapping[str, str] = field(default_factory=dict)
    #: Writes that one message names.
    message_size: int = messages.CHUNK
    #: Cores for everything together; None: all that there are.
    cores: int | None = None

    def count(self, credentials: int) -> int:
        """How many of so many credentials it gets."""
        return max(1, round(credentials * self.share))

    def as_json(self) -> dict[str, Any]:
        """All of it by name."""
        return {**asdict(self), "settings": dict(self.settings), "postgresql": dict(self.postgresql)}


def _crew(name: str, **options: Any) -> list[Configuration]:
    """The same with one process, and with three."""
    return [Configuration(f"{name}, {_many(number)}", processes=number, **options) for number in (1, 3)]


def _many(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _lever(name: str, **options: Any) -> Configuration:
    return Configuration(f"mock, 3 processes, {name}", **{"processes": 3} | options)


#: In each the first is what the others are compared with.
GROUPS: dict[str, list[Configuration]] = {
    "processes": [
        *(Configuration(f"mock, {_many(number)}", processes=number) for number in (1, 2, 3)),
        Configuration("mock, 3 masters", masters=3),
    ],
    "blocks": _crew(BLOCKS, chain=BLOCKS),
    "automine": _crew(AUTOMINE, chain=AUTOMINE),
    "mock alone": _crew("mock, batches of 1", settings=NO_WALL | ALONE, share=0.02, warm_up=60),
    "blocks alone": _crew(
        f"{BLOCKS}, batches of 1", chain=BLOCKS, settings=NO_WALL | ALONE, share=0.004, warm_up=60
    ),
    "automine alone": [
        *_crew(
            f"{AUTOMINE}, batches of 1", chain=AUTOMINE, settings=NO_WALL | ALONE, share=0.004, warm_up=60
        ),
        Configuration(
            f"{AUTOMINE}, batches of 1, 128 in flight, 2 processes",
            processes=2,
            chain=AUTOMINE,
            settings=NO_WALL | ALONE | IN_FLIGHT,
            share=0.008,
            warm_up=60,
        ),
    ],
    "limit": [
        Configuration(
            f"{AUTOMINE}, batches of 1, 10 a second, 3 processes",
            processes=3,
            chain=AUTOMINE,
            settings=ALONE,
            share=0.005,
            warm_up=60,
        )
    ],
    "levers": [
        Configuration("mock, 3 processes again", processes=3),
        Configuration("mock, 1 process, 1 core", cores=1),
        _lever("1 core", cores=1),
        _lever("10 threads", threads=10),
        _lever("batches of 100", settings=NO_WALL | {"BATCH_MAX_SIZE": "100"}),
        _lever("batches of 10000", settings=NO_WALL | {"BATCH_MAX_SIZE": "10000"}),
        _lever("prefetch of 1", settings=NO_WALL | {"dramatiq_queue_prefetch": "1"}),
        _lever("commits not awaited", postgresql={"synchronous_commit": "off"}),
    ],
}

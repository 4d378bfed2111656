"""The same on a chain: a block for each transaction at once, or one every two seconds."""

from __future__ import annotations

from tests.benchmarks.configuration import ALONE, AUTOMINE, BLOCKS, IN_FLIGHT, NO_WALL, Configuration
from tests.benchmarks.peer import Peer
from tests.benchmarks.scenarios import Figures, Measure, Scenario
from tests.benchmarks.scenarios.drain import CPU, RATE, best_of, drained, named
from tests.benchmarks.site import BLOCK_SECONDS, Site
from tests.benchmarks.targets import at_least

DEFAULT = "default batches"
IN_FLIGHT_NAME = "batches of 1, 128 in flight, 2 processes"

#: The axis of the plot.
AXIS = "batch size"

#: By batch size: the part of all credentials that keeps it busy for seconds, and not for minutes.
SHARES = {1: 0.2, 10: 0.2, 100: 0.5}

#: Each of the peer's is a transaction of its own.
PEER_SHARE, PEER_BLOCKS_SHARE = 0.2, 0.004


def _of(size: int) -> str:
    return f"batches of {size}"


def _automine(share: float = 1.0, processes: int = 1, **settings: str) -> Configuration:
    return Configuration(
        AUTOMINE, chain=AUTOMINE, settings=NO_WALL | settings, share=share, processes=processes
    )


#: 1,000 is the default, and 16 in flight; the peer's best has 50. So the last has at least as many in flight,
#: and as many processes as Dramatiq starts on two cores: a second worker gains the peer nothing.
AUTOMINES: dict[str, Configuration] = {
    DEFAULT: _automine(),
    **{_of(size): _automine(share, BATCH_MAX_SIZE=str(size)) for size, share in SHARES.items()},
    IN_FLIGHT_NAME: _automine(SHARES[1], 2, **ALONE, **IN_FLIGHT),
}


def _drained(site: Site, configuration: Configuration, count: int) -> Figures:
    return drained(site, configuration, configuration.count(count))


def ours_automine(site: Site, count: int) -> Figures:
    """One worker process with its five threads, but for the last."""
    figures: dict[str, float] = {}
    for name, configuration in AUTOMINES.items():
        figures |= named(name, _drained(site, configuration, count))
    return figures


def theirs_automine(peer: Peer, count: int) -> Figures:
    """One worker with its best concurrency; it knows no batches."""
    found = best_of(
        peer.rows("C", "--n", str(round(PEER_SHARE * count) or 1), "--workers", "1", "--conc", "50")
    )
    figures: dict[str, float] = {}
    for name in AUTOMINES:
        figures |= named(name, found)
    return figures


def _measures() -> tuple[Measure, ...]:
    rates = [
        Measure(f"{DEFAULT}, {RATE}", at_least(10, times_peer=True), point=(AXIS, 1000)),
        Measure(f"{_of(1)}, {RATE}", point=(AXIS, 1)),
        Measure(f"{IN_FLIGHT_NAME}, {RATE}", at_least(1, times_peer=True)),
        *(Measure(f"{_of(size)}, {RATE}", point=(AXIS, size)) for size in SHARES if size > 1),
    ]
    return (*rates, *(Measure(f"{name}, {CPU}") for name in AUTOMINES))


def ours_blocks(site: Site, count: int) -> Figures:
    """The same with blocks on a clock."""
    return named(DEFAULT, _drained(site, Configuration(BLOCKS, chain=BLOCKS), count))


def theirs_blocks(peer: Peer, count: int) -> Figures:
    """As many threads as ours: it has as many transactions in a block as its concurrency."""
    n = str(max(5, round(PEER_BLOCKS_SHARE * count)))
    options = ["--block-time", str(BLOCK_SECONDS), "--n", n, "--workers", "1", "--conc", "5"]
    return named(DEFAULT, best_of(peer.rows("C", *options)))


AUTOMINE_DRAIN = Scenario("automine", _measures(), ours_automine, theirs_automine, seconds=(60, 15))
BLOCKS_DRAIN = Scenario(
    f"{BLOCK_SECONDS} s blocks, concurrency 5",
    (
        Measure(f"{DEFAULT}, {RATE}", at_least(400, times_peer=True)),
        Measure(f"{DEFAULT}, {CPU}"),
    ),
    ours_blocks,
    theirs_blocks,
    seconds=(20, 25),
)

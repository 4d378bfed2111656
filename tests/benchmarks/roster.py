"""All scenarios, by what ``./run bench --scenario`` calls them."""

from __future__ import annotations

from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.scenarios.chain import AUTOMINE_DRAIN, BLOCKS_DRAIN
from tests.benchmarks.scenarios.drain import DRAIN
from tests.benchmarks.scenarios.faults import FAULTS
from tests.benchmarks.scenarios.gas import GAS
from tests.benchmarks.scenarios.intake import INTAKE
from tests.benchmarks.scenarios.latency import LATENCY
from tests.benchmarks.scenarios.limiter import LIMITER
from tests.benchmarks.scenarios.memory import MEMORY
from tests.benchmarks.scenarios.scale import SCALE

SCENARIOS: dict[str, list[Scenario]] = {
    "intake": [INTAKE],
    "drain": [DRAIN],
    "chain": [AUTOMINE_DRAIN, BLOCKS_DRAIN],
    "gas": [GAS],
    "limiter": [LIMITER],
    "memory": [MEMORY],
    "latency": [LATENCY],
    "scale": [SCALE],
    "faults": FAULTS,
}


def option_of(what: str) -> str | None:
    """The scenario that has the line ``what`` of a table; None for one of an earlier table."""
    found = (
        name for name, members in SCENARIOS.items() for one in members if what.startswith(f"{one.name}: ")
    )
    return next(found, None)

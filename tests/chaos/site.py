"""The servers of a run, all its own, and the settings that everybody on it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.valkey import ValkeyServer
from pipeline.embedded.workers import Scheduler, Workers
from tests.benchmarks.site import Site, clean_environment, used_here
from tests.chaos.supervisor import Supervised
from tests.issuer import chain_variables
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.servers.kent import Kent

#: More than any run tells Sentry.
KEPT_ALERTS = 10_000

#: Groups of workers, each with a master of its own.
MASTERS = 2

#: What the workers load.
ROSTER = "tests.chaos.roster"

#: Stands in the RPC URL as a provider's token would; it may appear nowhere.
TOKEN = "c4nary0rpc0token"

#: More slots than are asked for, small batches, retries that do not take longer than the run, no purge.
SETTINGS = {
    "rate_limit_max": 1000,
    "batch_max_size": 25,
    "retry_min_backoff_ms": 200,
    # A purge takes the history along by which a run is judged.
    "result_completed_max_count": 1_000_000,
    "log_format": "json",
}


@dataclass
class ChaosSite:
    """What faults are made at."""

    base: Site
    anvil: Anvil
    proxy: FaultProxy
    kent: Kent
    variables: dict[str, object]
    #: The block with the registry: no reorg goes that far.
    first_block: int
    #: Orders to die, and what `tests.chaos.broken` leaves: see `tests.chaos.roster`.
    orders: Path
    masters: list[Supervised] = field(default_factory=list)
    scheduler: Supervised | None = None
    #: How many blocks each reorg has taken away.
    reorgs: list[int] = field(default_factory=list)
    #: Transactions that somebody else has sent with the same key: their hashes, with their nonces.
    foreign: dict[str, int] = field(default_factory=dict)
    #: Redis ids of what was no message.
    rubbish: set[str] = field(default_factory=set)

    @property
    def valkey(self) -> ValkeyServer:
        """Redis, with its append-only file."""
        return self.base.valkey

    @property
    def postgres(self) -> PostgresServer:
        """Where the truth is."""
        return self.base.postgres


@contextmanager
def chaos_site(
    broken: str | None = None, masters: int = MASTERS, *, foreign: bool = False
) -> Iterator[ChaosSite]:
    """Start everything; this process's settings are those of the workers.

    ``broken``: with workers that lack one of `tests.chaos.broken`; ``masters``: how many groups of them;
    ``foreign``: servers that environment or ``.env`` name are no obstacle. Raises `ForeignServer`.
    """
    with ExitStack() as stack:
        base = stack.enter_context(Site(foreign=foreign))
        stack.enter_context(used_here({}))  # whatever else the environment names is not for this
        anvil = stack.enter_context(Anvil(base.new_folder("anvil")))
        proxy = stack.enter_context(FaultProxy(anvil.rpc_url, anvil.rpc_url))
        kent = stack.enter_context(Kent(base.new_folder("kent"), keep=KEPT_ALERTS))
        variables = {
            "database_url": base.postgres.create_database("chaos"),
            "redis_url": base.valkey.url,
            "sentry_dsn": kent.dsn,
            **SETTINGS,
            **chain_variables(anvil, rpc_url=f"{proxy.url}/v3/{TOKEN}"),
        }
        orders = base.new_folder("orders")
        site = ChaosSite(base, anvil, proxy, kent, variables, anvil.block_number, orders)
        environment = {name.upper(): str(value) for name, value in variables.items()}
        stack.enter_context(used_here(environment))
        _migrate()
        of_workers = {**environment, **_roster_variables(orders, broken)}
        for _ in range(masters):
            site.masters.append(stack.enter_context(_supervised(base, Workers, of_workers, roster=ROSTER)))
        site.scheduler = stack.enter_context(_supervised(base, Scheduler, environment))
        yield site


def _roster_variables(orders: Path, broken: str | None) -> dict[str, str]:
    found = {"CHAOS_ORDERS": str(orders), "PYTHONPATH": str(Path(__file__).parents[2])}
    return found | ({"CHAOS_BROKEN": broken} if broken else {})


def _supervised(
    base: Site, kind: type[Workers] | type[Scheduler], settings: dict[str, str], **options: str
) -> Supervised:
    folder = base.new_folder(kind.name)
    environment = {**clean_environment(), **settings}
    return Supervised(kind(folder, environment=environment, working_directory=folder, **options))  # type: ignore[arg-type]


def _migrate() -> None:
    from pipeline.database import database
    from pipeline.status import tree_of

    tree_of.cache_clear()  # of the batches of a run before this one, in this process
    database.is_closed()  # opens it, and brings the schema up to date

"""The pipeline's own code on SQLite, between a clock, a node and a broker that the model holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from dramatiq.errors import Retry

from pipeline import current, redis_client, verification
from pipeline.actors import broker as pipeline_broker
from pipeline.database import database
from pipeline.errors import ChainError
from pipeline.ledger.sql import rows
from pipeline.models import State, Write
from pipeline.settings import get_settings
from pipeline.settlement import healing, pace, sweep, view
from pipeline.turns import Turns
from tests.model.broker import Broker
from tests.model.clock import Clock
from tests.model.faults import Boundaries
from tests.model.node import CHAIN_ID, REGISTRY, Node

#: So long is any message counted as lost, and any lease over.
LONG_SECONDS = 130.0

#: Rounds of everything after which what is not at its end is lost.
ROUNDS = 40


@dataclass(slots=True)
class World:
    """One run: empty tables, an empty chain."""

    clock: Clock
    boundaries: Boundaries
    node: Node
    broker: Broker

    def work(self, actor_name: str, *args: Any) -> None:
        """What a worker does with a message."""
        actor = pipeline_broker.get_actor(actor_name)
        try:
            actor.fn(*args)
        except Retry:
            self.broker.messages.append(actor.message(*args))
        except ChainError:
            assert self.node.down, "the node has answered"

    def deliver(self, index: int) -> None:
        """One of the messages that wait."""
        message = self.broker.messages.pop(index % len(self.broker.messages))
        self.work(message.actor_name, *message.args)

    def deliver_elsewhere(self, index: int) -> None:
        """One of the messages, in another process."""
        if self.broker.messages:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(verification, "_turns", Turns())
                self.deliver(index)

    def restart(self) -> None:
        """What a process has in memory is gone."""
        healing._gaps.clear()
        healing._lowest.clear()
        pace._newest, pace._asked_until, pace._mines_at_once = None, 0.0, True
        sweep._last_look = 0.0
        view._lineages.clear()

    def drain(self) -> None:
        """Take everything to its end: nothing is wrong any more, and time goes by."""
        for _ in range(ROUNDS):
            self.clock.sleep(LONG_SECONDS)
            self.work("reconcile")
            for _ in range(len(self.broker.messages)):
                self.deliver(0)
            self.node.mine(100)
            self.work("settle")
            if not self.broker.messages and not pending():
                return
        raise AssertionError(f"lost: {pending()}")


def pending() -> list[tuple[Any, ...]]:
    """Writes that are on their way: their ids and states."""
    return rows(Write.select(Write.id, Write.state).where(Write.state.in_(State.PENDING)))


@contextmanager
def worlds(database_url: str, **settings: object) -> Iterator[Callable[[], World]]:
    """Makes one world after the other, in this process's database."""
    with pytest.MonkeyPatch.context() as patch:
        _settings(patch, database_url, **settings)
        database.close_all()
        database.execute_sql("PRAGMA synchronous = off")
        holder: list[World] = []
        patch.setattr(redis_client, "connect", lambda: holder[0].broker.redis())
        for module in ("pipeline.reconciliation", "pipeline.events"):
            patch.setattr(f"{module}.connect", lambda: holder[0].broker.redis(), raising=False)
        patch.setattr("pipeline.events._add_to_stream", lambda _: None)  # nobody listens
        for module in (
            "chain.client",
            "chain_writing",
            "outlook",
            "ready",
            "settlement.sweep",
            "reconciliation",
        ):
            patch.setattr(f"pipeline.{module}.chain_client", lambda: holder[0].node)
        clock, boundaries = Clock(), Boundaries()
        clock.install(patch)
        boundaries.install(patch)
        tables = _tables()

        def new() -> World:
            _empty(tables)
            clock.seconds += LONG_SECONDS
            world = World(clock, boundaries, Node(clock, boundaries), Broker(boundaries))
            world.restart()
            holder[:] = [world]
            current.use(world.broker)
            return world

        logging.disable(logging.CRITICAL)
        before = current.broker()
        try:
            yield new
        finally:
            logging.disable(logging.NOTSET)
            current.use(before)
            database.close_all()
    get_settings.cache_clear()


def _settings(patch: pytest.MonkeyPatch, database_url: str, **more: object) -> None:
    usual = {
        "database_url": database_url,
        "blockchain_chain_id": CHAIN_ID,
        "blockchain_contract_address": REGISTRY,
        "batch_max_size": 3,
        "blockchain_confirmations": 2,
        "blockchain_max_in_flight": 4,
    }
    for name, value in {**usual, **more}.items():
        patch.setenv(name.upper(), str(value))
    get_settings.cache_clear()


def _tables() -> list[str]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%migration%'"
    found = [row[0] for row in database.execute_sql(names)]
    return sorted(found, key=lambda name: name == "write_counts")  # triggers write to it


def _empty(tables: list[str]) -> None:
    with database.atomic():
        for table in tables:
            database.execute_sql(f"DELETE FROM {table}")

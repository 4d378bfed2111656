"""The rules: what issuers, workers, Redis, the node and the operating system do, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline import pausing
from pipeline.credentials import sync
from pipeline.database import database
from tests.issuer import document
from tests.model.faults import KINDS, Boundary
from tests.model.node import FEE_WEI
from tests.model.world import World

#: Where a process dies or is overtaken; the first ones are the likelier.
BOUNDARIES = st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5]))

SWEEPS = st.sampled_from(["settle", "reconcile", "chain_write"])


class Pipeline(RuleBasedStateMachine):
    """One world, from its begin until everything in it has come to its end."""

    new_world: ClassVar[Callable[[], World]]

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).new_world()
        self.queued: set[str] = set()

    @rule(number=st.integers(0, 9), urgent=st.booleans())
    def queue(self, number: int, urgent: bool) -> None:
        """A credential, new or the same again."""
        name = f"c{number}"
        priority = "urgent" if urgent else "normal"
        sync([{"credential_id": name, "document": document(number), "priority": priority}])
        self.queued.add(name)

    @precondition(lambda self: self.world.broker.messages)
    @rule(index=st.integers(0, 9))
    def deliver(self, index: int) -> None:
        self.world.deliver(index)

    @precondition(lambda self: self.world.broker.messages)
    @rule(index=st.integers(0, 9), twice=st.booleans())
    def lose_or_double(self, index: int, twice: bool) -> None:
        messages = self.world.broker.messages
        message = messages.pop(index % len(messages))
        messages += [message, message] if twice else []

    @rule(name=SWEEPS)
    def sweep(self, name: str) -> None:
        self.world.work(name)

    @precondition(lambda self: self.world.broker.messages)
    @rule(index=st.integers(0, 9), boundary=BOUNDARIES)
    def crash_in_message(self, index: int, boundary: Boundary) -> None:
        """The message is gone with its worker."""
        with self.world.boundaries.dying_at(boundary):
            self.world.deliver(index)
        self.world.restart()

    @rule(name=SWEEPS, boundary=BOUNDARIES)
    def crash_in_sweep(self, name: str, boundary: Boundary) -> None:
        with self.world.boundaries.dying_at(boundary):
            self.world.work(name)
        self.world.restart()

    @precondition(lambda self: len(self.world.broker.messages) > 1)
    @rule(index=st.integers(0, 9), boundary=BOUNDARIES)
    def interleave(self, index: int, boundary: Boundary) -> None:
        """A worker is overtaken in the middle of a message by one with another."""
        world = self.world
        with world.boundaries.visited_at(boundary, lambda: world.deliver_elsewhere(index)):
            world.deliver(index)

    @rule(name=SWEEPS, index=st.integers(0, 9), boundary=BOUNDARIES)
    def overtake(self, name: str, index: int, boundary: Boundary) -> None:
        """The same happens to a sweep."""
        world = self.world
        with world.boundaries.visited_at(boundary, lambda: world.deliver_elsewhere(index)):
            world.work(name)

    @rule(limit=st.integers(1, 3))
    def carry_on(self, limit: int) -> None:
        """A moment in which nothing is in the way: so runs get further than to the first stage."""
        self.world.node.mend()
        pausing.resume("somebody")
        for _ in range(len(self.world.broker.messages)):
            self.world.deliver(0)
        self.world.node.mine(limit)
        self.world.work("settle")

    @rule(limit=st.integers(0, 3))
    def mine(self, limit: int) -> None:
        self.world.node.mine(limit)

    @rule(depth=st.integers(1, 4), keep=st.booleans())
    def reorg(self, depth: int, keep: bool) -> None:
        self.world.node.reorg(depth, keep=keep)

    @rule(depth=st.integers(1, 4))
    def fall(self, depth: int) -> None:
        self.world.node.fall(depth)

    @rule(part=st.sampled_from([0, 1, 2]))
    def ask_for_more(self, part: int) -> None:
        """What is cheaper than so many times the usual fee is refused."""
        self.world.node.least_fee = FEE_WEI * part

    @precondition(lambda self: self.world.node.pool)
    @rule(index=st.integers(0, 3))
    def drop(self, index: int) -> None:
        """The node forgets a transaction of its pool."""
        pool = self.world.node.pool
        del pool[sorted(pool)[index % len(pool)]]

    @rule(fault=st.sampled_from(["down", "loses_reply", "refuses"]))
    def change_node(self, fault: str) -> None:
        """A fault begins, or ends."""
        setattr(self.world.node, fault, not getattr(self.world.node, fault))

    @rule(pause=st.booleans())
    def pause(self, pause: bool) -> None:
        (pausing.pause if pause else pausing.resume)("somebody")

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0, 70.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.sleep(seconds)

    @invariant()
    def nothing_is_there_twice(self) -> None:
        """Each root is in the canonical chain once, and stands for credentials of no other root there."""
        roots = self.world.node.roots()
        assert len(set(roots)) == len(roots), "a root is anchored twice"
        names = found("SELECT merkle_root, credential_id FROM writes JOIN batches ON batches.id = batch_id")
        anchored = [name for root, name in names if root in roots]
        assert len(set(anchored)) == len(anchored), "a credential is anchored twice"

    @invariant()
    def what_is_sent_can_be_mined(self) -> None:
        """A submitted batch has a transaction that can still be mined; a settled one's is in a block."""
        submitted = found(
            "SELECT id FROM batches WHERE state = 'submitted' AND NOT EXISTS (SELECT 1 FROM transactions"
            " WHERE batch_id = batches.id AND lost_at IS NULL AND state <> 'reverted')"
        )
        assert not submitted, "submitted, and nothing of it can be mined"
        nowhere = "SELECT id FROM batches WHERE state IN ('settled', 'confirmed') AND block_number IS NULL"
        assert not found(nowhere), "settled in no block"

    @invariant()
    def one_live_write_a_credential(self) -> None:
        live = found("SELECT credential_id FROM writes WHERE state <> 'failed'")
        assert len(set(live)) == len(live)

    @invariant()
    def one_batch_a_nonce(self) -> None:
        """Nonces have no hole; what is signed for one is one batch's; a batch has one nonce."""
        signed = set(found("SELECT nonce, batch_id FROM transactions"))
        nonces = {nonce for nonce, _ in signed}
        assert nonces == set(range(len(signed))), "a hole, or a nonce with two batches"
        batches = [batch for _, batch in signed if batch is not None]
        assert len(set(batches)) == len(batches), "a batch has two nonces"

    def teardown(self) -> None:
        """No fault any more: everything comes to its end."""
        self.world.node.mend()
        pausing.resume("somebody")
        self.world.drain()
        self.nothing_is_there_twice()
        self.one_live_write_a_credential()
        self.one_batch_a_nonce()
        self.what_is_sent_can_be_mined()
        self.the_ledger_says_what_is()

    def the_ledger_says_what_is(self) -> None:
        """Nothing is lost, and what is confirmed is there: in the block that its batch names."""
        assert {name for (name,) in found("SELECT credential_id FROM writes")} == self.queued
        confirmed = found(
            "SELECT id, merkle_root, transaction_hash, block_hash FROM batches WHERE state = 'confirmed'"
        )
        assert sorted(self.world.node.roots()) == sorted(root for _, root, *_ in confirmed)
        receipts = self.world.node.receipts([hash_ for _, _, hash_, _ in confirmed])
        for _, _, hash_, block_hash in confirmed:
            receipt = receipts[hash_]
            assert receipt is not None, "confirmed, and in no canonical block"
            assert receipt.block_hash == block_hash, "confirmed, and in another block"
        members = found("SELECT DISTINCT batch_id FROM writes WHERE state = 'confirmed'")
        assert {batch for (batch,) in members} == {batch for batch, *_ in confirmed}


def found(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in SQL itself: peewee takes longer to make it than SQLite to answer."""
    return list(database.execute_sql(sql).fetchall())

"""Promise: a chain write happens exactly once whatever fails, and goes on at full width on a slow chain."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pipeline.embedded.workers import Workers
from pipeline.ledger import control
from pipeline.models import Batch, BatchState, State, Transaction, Write
from tests.issuer import chain_variables, completed, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.truth import assert_truthful
from tests.waiting import until

pytestmark = [
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
    pytest.mark.timeout(900),  # in full size
]

#: Of limits that are not what is tested.
UNLIMITED = {"rate_limit_max": 10_000, "batch_max_size": 1}


def mined_every(anvil: Anvil, seconds: int) -> None:
    """Let the chain mine on a clock from now on."""
    anvil.stop_mining()
    anvil.rpc("evm_setIntervalMining", seconds)


def test_a_slow_chain_is_used_at_full_width(
    client: Any, start: Callable[..., Workers], anvil: Anvil, full_size: bool
) -> None:
    """240 transactions with 5 threads within 4 blocks: threads that wait would need 48."""
    seconds = 12 if full_size else 5
    variables = chain_variables(anvil)
    mined_every(anvil, seconds)
    start(threads=5, blockchain_max_in_flight=500, **UNLIMITED, **variables)
    queue_documents(240)
    until(completed(client, 240), seconds=6 * seconds, what="240 completed")
    blocks = {batch.block_number for batch in Batch.select()}
    assert Transaction.select().count() == 240
    assert max(blocks) - min(blocks) < 4
    anvil.rpc("evm_setIntervalMining", 0)
    assert_truthful(anvil, variables)


def test_a_worker_is_killed_at_random(
    client: Any, start: Callable[..., Workers], anvil: Anvil, full_size: bool
) -> None:
    """Nonces without a hole, each credential anchored once."""
    count, kills = (500, 20) if full_size else (120, 4)
    variables = chain_variables(anvil)
    workers = start(**UNLIMITED, **variables)
    queue_documents(count)
    chance = random.Random(7)
    for goal in sorted(chance.sample(range(1, count), kills)):
        until(lambda goal=goal: Transaction.select().count() >= goal, seconds=60, what=f"{goal} signed")
        workers.kill()
        workers.start()
    until(completed(client, count), seconds=120, what=f"{count} completed")
    assert len({row.nonce for row in Transaction.select()}) == count
    assert_truthful(anvil, variables)


def test_the_reply_is_cut_after_the_broadcast(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
) -> None:
    """A hundred times: a hundred transactions, a hundred nonces, none failed, no second attempt."""
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    proxy.cut_reply("eth_sendRawTransaction", times=100)
    start(**UNLIMITED, **variables)
    queue_documents(100)
    until(completed(client, 100), seconds=90, what="100 completed")
    assert Transaction.select().count() == 100
    assert {row.attempts for row in Write.select()} == {1}
    assert_truthful(anvil, variables)


def test_the_middle_of_five_is_dropped(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """All five land with the hashes that they had."""
    variables = chain_variables(anvil)
    anvil.stop_mining()
    start(**UNLIMITED, **variables)
    queue_documents(5)
    until(lambda: anvil.pool_size == 5, seconds=30, what="five in the pool")
    hashes = [row.hash for row in Transaction.select().order_by(Transaction.nonce)]
    anvil.rpc("anvil_dropTransaction", hashes[2])
    until(lambda: anvil.pool_size == 5, seconds=30, what="five in the pool again")
    anvil.mine()
    until(completed(client, 5), seconds=30, what="5 completed")
    assert [row.hash for row in Transaction.select().order_by(Transaction.nonce)] == hashes
    assert_truthful(anvil, variables)


def test_the_node_is_away_for_a_while(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
    full_size: bool,
) -> None:
    """Intake goes on, all is completed afterwards, and nothing of which bytes were sent ever failed."""
    count, seconds = (500, 60) if full_size else (100, 20)
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    start(**{**UNLIMITED, "batch_max_size": 5}, **variables)
    queue_documents(count // 2)
    until(lambda: Transaction.select().count() >= 5, seconds=30, what="a few sent")
    proxy.down = True
    queue_documents(count // 2, start=count // 2)
    failed: set[int] = set()

    def over() -> bool:
        failed.update(row.id for row in Write.select(Write.id).where(Write.state == State.FAILED))
        return client.get_job_counts()["completed"] == count

    end = time.monotonic() + seconds
    until(lambda: over() or time.monotonic() > end, seconds=seconds + 10, what="the outage is over")
    proxy.down = False
    sent_before = {row.id for row in writes_with_a_transaction()}
    until(over, seconds=90, what=f"{count} completed")
    assert not failed & sent_before
    assert_truthful(anvil, variables)


def test_what_redis_forgets_while_the_node_is_away(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
    redis_url: str,
) -> None:
    """The sweep that asks the node fails; the one that sends lost messages again goes on all the same."""
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    anvil.stop_mining()
    start(**UNLIMITED, **variables)
    queue_documents(1)
    until(lambda: anvil.pool_size == 1, seconds=30, what="one in flight")
    proxy.down = True
    control.set_paused(True)
    with redis.Redis.from_url(redis_url) as connection:
        queue_documents(20, start=1)
        connection.flushall()
    until(lambda: client.get_job_counts()["waiting"] == 0, seconds=30, what="all taken up")
    proxy.down = False
    control.set_paused(False)
    anvil.rpc("evm_setAutomine", True)
    until(completed(client, 21), seconds=60, what="21 completed")
    assert_truthful(anvil, variables)


def writes_with_a_transaction() -> list[Write]:
    """Writes whose batch has been signed."""
    return list(Write.select(Write.id).join(Batch).where(Batch.state.not_in(BatchState.WAITING)))

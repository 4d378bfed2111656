"""Promise: whatever chain, node and wallet do, the status tells the truth, and what can be mended heals."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from pipeline import messages
from pipeline.chain.client import ChainClient
from pipeline.chain.fees import GWEI, Fees
from pipeline.embedded.workers import Workers
from pipeline.ledger import control, incidents, under_way
from pipeline.models import Batch, DeadLetter, Signer, Transaction, Write
from pipeline.settings import Settings
from tests.issuer import chain_variables, completed, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.servers.kent import Kent
from tests.truth import assert_truthful
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

SINGLE = {"rate_limit_max": 10_000, "batch_max_size": 1}


def error_classes(kent: Kent) -> list[str]:
    """What the alerts are about."""
    return [event["tags"]["error_class"] for event in kent.events()]


# --- reorgs -----------------------------------------------------------------------------------------


def test_a_reorg_takes_a_confirmed_block_away(
    client: Any, start: Callable[..., Workers], anvil: Anvil
) -> None:
    """The status leaves ``completed`` within two sweeps, and comes back with the new block."""
    variables = chain_variables(anvil)
    start(**variables)
    queue_documents(3)
    until(completed(client, 3), seconds=30, what="3 completed")
    before = client.get_blockchain_write_status("c0")["result"]
    anvil.stop_mining()
    # As deep as everything that was anchored, with other blocks in its place.
    depth = anvil.block_number - before["block_number"] + 1
    anvil.rpc("anvil_reorg", depth, [])
    anvil.mine()
    begin = time.monotonic()
    until(lambda: client.get_job_counts()["completed"] == 0, seconds=10, what="no longer completed")
    assert time.monotonic() - begin < 5
    assert client.get_blockchain_write_status("c0")["status"] == "active"
    until(lambda: anvil.pool_size > 0, seconds=20, what="the same bytes go out again")
    anvil.mine()
    until(completed(client, 3), seconds=20, what="3 completed again")
    after = client.get_blockchain_write_status("c0")["result"]
    assert after["transaction_hash"] == before["transaction_hash"]
    assert after["block_number"] != before["block_number"]
    assert after["block_hash"] != before["block_hash"]
    assert_truthful(anvil, variables)


def test_a_final_block_is_removed(
    client: Any, start: Callable[..., Workers], start_anvil: Callable[..., Anvil], kent: Kent
) -> None:
    """A critical alert, and all is written again."""
    anvil = start_anvil()
    variables = chain_variables(anvil)
    start(blockchain_reorg_watch_blocks=1, sentry_dsn=kent.dsn, **variables)
    queue_documents(2)
    until(completed(client, 2), seconds=30, what="2 completed")
    anvil.mine(3)
    until(lambda: Batch.select().where(Batch.final_at.is_null()).count() == 0, seconds=20, what="final")
    before = client.get_blockchain_write_status("c0")["result"]["block_number"]
    anvil.rpc("anvil_reorg", anvil.block_number - before + 1, [])
    anvil.mine()
    [event] = kent.wait_for(1, timeout_seconds=40)
    assert (event["level"], event["tags"]["error_class"]) == ("fatal", "FinalBlockRemoved")
    until(completed(client, 2), seconds=30, what="2 completed again")
    assert len(kent.events()) == 1
    assert_truthful(anvil, variables)


# --- fees -------------------------------------------------------------------------------------------


def test_the_base_fee_rises_above_the_cap(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
) -> None:
    """The lowest nonce is replaced, an eighth dearer at least; those after it land too, none twice."""
    proxy = start_fault_proxy(anvil.rpc_url, strict_replacements=True)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    anvil.stop_mining()
    start(blockchain_max_fee_gwei=200, **SINGLE, **variables)
    queue_documents(4)
    until(lambda: Transaction.select().count() == 4, seconds=30, what="four sent")
    until(lambda: anvil.pool_size == 4, seconds=10, what="four in the pool")
    first = Transaction.select().order_by(Transaction.nonce).first()
    dear = int(first.max_fee_wei) * 2
    mine_at(anvil, dear)
    until(lambda: mined_more(anvil, dear) and completed(client, 4)(), seconds=90, what="4 completed")
    tried = list(Transaction.select().where(Transaction.nonce == first.nonce).order_by(Transaction.id))
    assert len(tried) > 1
    for one, next_one in pairwise(tried):
        assert int(next_one.max_fee_wei) >= int(one.max_fee_wei) * 9 / 8
        assert int(next_one.tip_wei) >= int(one.tip_wei) * 9 / 8
    assert max(int(row.max_fee_wei) for row in Transaction.select()) <= 200 * GWEI
    assert "replacement transaction underpriced" not in [sent.answer for sent in proxy.sent]
    assert_truthful(anvil, variables)


def mine_at(anvil: Anvil, base_fee_wei: int) -> None:
    """Mine a block with that base fee."""
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee_wei))
    anvil.mine()


def mined_more(anvil: Anvil, base_fee_wei: int) -> bool:
    """Mine one more block with that base fee: time goes by for what is stuck."""
    mine_at(anvil, base_fee_wei)
    return True


def test_at_the_ceiling_it_stops_and_alerts(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """Never above BLOCKCHAIN_MAX_FEE_GWEI; the status says so, one alert; cheaper again: all land."""
    variables = chain_variables(anvil)
    anvil.stop_mining()
    start(blockchain_max_fee_gwei=4, sentry_dsn=kent.dsn, **SINGLE, **variables)
    queue_documents(2)
    until(lambda: anvil.pool_size == 2, seconds=30, what="two in the pool")
    mine_at(anvil, 9 * GWEI)
    until(lambda: mined_more(anvil, 9 * GWEI) and bool(incidents.under_way()), seconds=30, what="an incident")
    until(lambda: reason(client, "c0") == "fee ceiling", seconds=10, what="the status says why")
    queue_documents(1, start=2)
    kent.wait_for(1)
    assert max(int(row.max_fee_wei) for row in Transaction.select()) <= 4 * GWEI
    until(lambda: mined_more(anvil, GWEI) and completed(client, 3)(), seconds=90, what="3 completed")
    assert set(error_classes(kent)) <= {"FeeCeiling", "StuckTransaction"}
    assert len(error_classes(kent)) == len(set(error_classes(kent)))
    assert DeadLetter.select().count() == 0
    assert_truthful(anvil, variables)


def reason(client: Any, credential_id: str) -> Any:
    """Why it waits."""
    return client.get_blockchain_write_status(credential_id)["reason"]


def test_the_original_is_mined_instead_of_its_replacement(
    client: Any,
    start: Callable[..., Workers],
    anvil: Anvil,
    start_fault_proxy: Callable[..., FaultProxy],
) -> None:
    """Another node still had it: settled under the original's hash."""
    proxy = start_fault_proxy(anvil.rpc_url)
    variables = chain_variables(anvil, rpc_url=proxy.url)
    anvil.stop_mining()
    start(**SINGLE, **variables)
    queue_documents(1)
    until(lambda: anvil.pool_size == 1, seconds=30, what="one in the pool")
    original = Transaction.get()
    # This node forgets it, wants more for it, and then takes nothing at all; another one still has it.
    proxy.answer_error("eth_sendRawTransaction", "max fee per gas less than block base fee")
    proxy.answer_error("eth_sendRawTransaction", "txpool is full", times=None)
    anvil.rpc("anvil_dropTransaction", original.hash)
    until(lambda: Transaction.select().count() == 2, seconds=30, what="a replacement")
    anvil.rpc("eth_sendRawTransaction", original.raw_transaction)
    anvil.mine()
    until(completed(client, 1), seconds=30, what="1 completed")
    assert client.get_blockchain_write_status("c0")["result"]["transaction_hash"] == original.hash
    assert_truthful(anvil, variables)


# --- nonces -----------------------------------------------------------------------------------------


def test_somebody_else_uses_the_key(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """None of 50 is lost, none is reported under the foreign hash, and there is an alert."""
    variables = chain_variables(anvil)
    anvil.stop_mining()
    start(blockchain_max_in_flight=60, sentry_dsn=kent.dsn, **SINGLE, **variables)
    queue_documents(50)
    until(lambda: anvil.pool_size == 50, seconds=60, what="50 in the pool")
    stored = list(Transaction.select().order_by(Transaction.nonce))
    foreign = take_nonce(anvil, variables, stored[25])
    anvil.rpc("evm_setAutomine", True)
    anvil.mine()
    until(lambda: mined(anvil) and completed(client, 50)(), seconds=90, what="50 completed")
    results = [done["result"]["transaction_hash"] for done in client.get_completed()]
    assert foreign not in results
    assert len(set(results)) == 50
    [event] = kent.wait_for(1)
    assert (event["level"], event["tags"]["error_class"]) == ("fatal", "NonceConflict")
    assert len(kent.events()) == 1
    assert_truthful(anvil, variables)


def take_nonce(anvil: Anvil, variables: dict[str, Any], stored: Transaction) -> str:
    """Use the nonce of a transaction in the pool for a dearer one that does something else."""
    other = ChainClient(Settings(**variables))
    fees = Fees(int(stored.max_fee_wei) * 2, int(stored.tip_wei) * 2)
    prepared = other.prepare_filler(stored.nonce, fees)
    return str(anvil.rpc("eth_sendRawTransaction", "0x" + prepared.raw.hex()))


def mined(anvil: Anvil) -> bool:
    """Let one more block go by."""
    anvil.mine()
    return True


def test_a_gap_is_filled(client: Any, start: Callable[..., Workers], anvil: Anvil) -> None:
    """Nothing is stored for the nonce that the chain waits for: a recorded transfer of nothing fills it."""
    variables = chain_variables(anvil)
    start(**SINGLE, **variables)
    queue_documents(1)
    until(completed(client, 1), seconds=30, what="1 completed")
    Signer.update(next_nonce=Signer.next_nonce + 2).execute()
    queue_documents(1, start=1)
    until(completed(client, 2), seconds=60, what="2 completed")
    assert Transaction.select().where(Transaction.batch.is_null()).count() == 2
    assert_truthful(anvil, variables)


def test_the_node_loses_its_pool(
    client: Any, start: Callable[..., Workers], start_anvil: Callable[..., Anvil], tmp_path: Path
) -> None:
    """Killed with 50 pending and started again from its state: all land with nobody's help."""
    anvil = start_anvil(state=tmp_path / "state.json", more=["--state-interval", "1"])
    variables = chain_variables(anvil)
    anvil.stop_mining()
    start(blockchain_max_in_flight=60, **SINGLE, **variables)
    queue_documents(50)
    until(lambda: anvil.pool_size == 50, seconds=60, what="50 in the pool")
    hashes = {row.hash for row in Transaction.select()}
    anvil.stop()
    anvil.start()
    until(completed(client, 50), seconds=90, what="50 completed")
    assert {row.hash for row in Transaction.select()} == hashes
    assert_truthful(anvil, variables)


# --- wallet, role, chain ----------------------------------------------------------------------------


def test_an_empty_wallet(client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent) -> None:
    """No dead letter, one alert, no attempt used; topped up it goes on, without a gap."""
    variables = chain_variables(anvil)
    anvil.rpc("anvil_setBalance", anvil.address, "0x0")
    start(sentry_dsn=kent.dsn, **SINGLE, **variables)
    queue_documents(20)
    [event] = kent.wait_for(1)
    assert event["tags"]["error_class"] == "InsufficientFunds"
    until(lambda: reason(client, "c0") == "funds", seconds=10, what="the status says why")
    assert Transaction.select().count() == 0
    anvil.rpc("anvil_setBalance", anvil.address, hex(10**20))
    until(completed(client, 20), seconds=30, what="20 completed")
    assert DeadLetter.select().count() == 0
    assert len(kent.events()) == 1
    assert {row.attempts for row in Write.select()} == {1}
    assert_truthful(anvil, variables)


def test_the_role_is_taken_away_and_given_back(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """In the middle of it: a clear error, no nonce burned, all completed."""
    variables = owned_by_another(anvil)
    as_owner(anvil, variables, "addIssuer(address)")
    start(sentry_dsn=kent.dsn, **SINGLE, **variables)
    queue_documents(20)
    until(lambda: Transaction.select().count() >= 10, seconds=30, what="ten sent")
    # The guards have just passed, and nothing is between them and a signature.
    control.set_paused(True)
    until(nothing_in_flight, seconds=20, what="nothing in flight")
    queue_documents(20, start=20)  # however fast the others were written
    as_owner(anvil, variables, "removeIssuer(address)")
    control.set_paused(False)
    messages.write("normal")
    [event] = kent.wait_for(1)
    assert event["tags"]["error_class"] == "NotAnIssuer"
    waiting = [row.credential_id for row in Write.select().where(Write.state == "verified")]
    assert reason(client, waiting[0]) == "issuer role"
    as_owner(anvil, variables, "addIssuer(address)")
    until(completed(client, 40), seconds=40, what="40 completed")
    assert Transaction.select().count() == 40
    assert {row.attempts for row in Write.select()} == {1}
    assert DeadLetter.select().count() == 0
    assert_truthful(anvil, variables)


def nothing_in_flight() -> bool:
    """Whether all that was signed is mined."""
    return under_way.in_flight(None).count == 0


def test_the_role_is_gone_when_the_block_comes(
    client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent
) -> None:
    """What reverts for that is written again when the role is back: no dead letter, no attempt."""
    variables = owned_by_another(anvil)
    as_owner(anvil, variables, "addIssuer(address)")
    anvil.stop_mining()
    start(sentry_dsn=kent.dsn, **SINGLE, **variables)
    queue_documents(3)
    until(lambda: anvil.pool_size == 3, seconds=30, what="three in the pool")
    as_owner(
        anvil,
        variables,
        "removeIssuer(address)",
        maxFeePerGas=hex(50 * GWEI),
        maxPriorityFeePerGas=hex(50 * GWEI),
    )
    anvil.mine()
    [event] = kent.wait_for(1)
    assert event["tags"]["error_class"] == "NotAnIssuer"
    anvil.rpc("evm_setAutomine", True)
    as_owner(anvil, variables, "addIssuer(address)")
    until(completed(client, 3), seconds=40, what="3 completed")
    assert Transaction.select().where(Transaction.state == "reverted").count() == 3
    assert {row.attempts for row in Write.select()} == {1}
    assert len(kent.events()) == 1
    assert DeadLetter.select().count() == 0
    assert_truthful(anvil, variables)


def owned_by_another(anvil: Anvil) -> dict[str, Any]:
    """Settings for a registry that the second account owns, and in which the first is no issuer yet."""
    variables = chain_variables(anvil)
    second = {**variables, "blockchain_private_key": anvil.accounts[1].private_key}
    del second["blockchain_contract_address"]
    return {
        **variables,
        "blockchain_contract_address": ChainClient(Settings(**second)).deploy().contract_address,
    }


def as_owner(anvil: Anvil, variables: dict[str, Any], signature: str, **more: str) -> None:
    """Let the second account call a function of the registry about the first one."""
    data = keccak(text=signature)[:4] + encode(["address"], [anvil.address])
    call = {"from": anvil.accounts[1].address, "data": "0x" + data.hex(), **more}
    anvil.rpc("eth_sendTransaction", {**call, "to": variables["blockchain_contract_address"]})


def test_the_chain_began_anew(client: Any, start: Callable[..., Workers], anvil: Anvil, kent: Kent) -> None:
    """A development chain that was wiped is not written to; the message says so."""
    variables = chain_variables(anvil)
    start(sentry_dsn=kent.dsn, **variables)
    queue_documents(1)
    until(completed(client, 1), seconds=30, what="1 completed")
    anvil.stop()
    anvil.start()
    queue_documents(1, start=1)
    [event] = kent.wait_for(1, timeout_seconds=30)
    assert event["tags"]["error_class"] == "ChainReset"
    assert "wiped" in event["exception"]["values"][0]["value"]
    assert reason(client, "c1") == "chain reset"
    assert int(anvil.rpc("eth_getTransactionCount", anvil.address, "latest"), 16) == 0
    assert Transaction.select().count() == 1

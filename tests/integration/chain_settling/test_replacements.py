"""Promise: a replacement pays what a node asks of one, never more than the ceiling, and a filler uses up a
nonce and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from pipeline.chain.client import TRANSFER_GAS, ChainClient
from pipeline.chain.fees import GWEI, Fees
from pipeline.errors import FeeCeiling
from tests.chain import AnyServer, mined, new_client, next_anchor, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

BELOW_LONDON = ["--hardfork=berlin", "--gas-price=3000000000"]


def test_a_filler_uses_up_a_nonce(server: AnyServer) -> None:
    """And nothing else: no value, no data, 21,000 gas."""
    client = new_client(server)
    nonce = client.transaction_counts()[1]
    filler = client.prepare_filler(nonce, client.fees())
    assert (filler.nonce, filler.gas_limit) == (nonce, TRANSFER_GAS)
    assert client.send(filler.raw).taken
    receipt = mined(client, filler)
    assert (receipt.status, receipt.gas_used) == (1, TRANSFER_GAS)
    assert client.transaction_counts()[0] == nonce + 1
    sent = client.rpc.call("eth_getTransactionByHash", [filler.hash])
    assert (sent["from"], sent["to"]) == (client.signer_address.lower(), client.signer_address.lower()) or (
        sent["from"] == sent["to"] == client.signer_address
    )
    assert (int(sent["value"], 16), sent["input"]) == (0, "0x")


def test_the_gas_of_a_filler(proxy: FaultProxy, client: ChainClient) -> None:
    """Where a chain charges for more than a transfer; asked once, and not fatal where a node can not tell."""
    fees = Fees(20 * GWEI, GWEI)
    proxy.answer_error("eth_estimateGas", "internal error")
    assert client.prepare_filler(1, fees).gas_limit == TRANSFER_GAS
    proxy.answer_result("eth_estimateGas", hex(100_000))
    assert [client.prepare_filler(nonce, fees).gas_limit for nonce in (1, 2)] == [120_000] * 2


def test_a_replacement_takes_the_place(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> None:
    """geth would take it, and it is mined; twice in a row."""
    proxy = start_fault_proxy(anvil.rpc_url, strict_replacements=True)
    contract = registered(anvil).contract_address
    client = new_client(anvil, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    anvil.stop_mining()
    transaction = next_anchor(client)
    assert client.send(transaction.raw).taken
    for _ in range(2):
        fees = client.replacement_fees(Fees(transaction.max_fee_wei, transaction.tip_wei))
        transaction = client.prepare_anchor(secrets.token_bytes(32), 1, fees)
        assert client.send(transaction.raw).taken
    anvil.mine()
    assert mined(client, transaction).status == 1


def test_a_replacement_with_a_gas_price(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """On a chain before London."""
    server = start_anvil(more=BELOW_LONDON)
    contract = registered(server).contract_address
    proxy = start_fault_proxy(server.rpc_url, strict_replacements=True)
    client = new_client(server, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    server.rpc("evm_setAutomine", False)
    fees = client.fees()
    assert client.send(client.prepare_anchor(secrets.token_bytes(32), 1, fees).raw).taken
    raised = client.replacement_fees(fees)
    assert raised.legacy
    filler = client.prepare_filler(1, raised)
    assert client.send(filler.raw).taken
    server.mine()
    assert mined(client, filler).gas_price_wei == raised.max_fee_wei >= fees.max_fee_wei * 9 / 8


def test_no_replacement_above_the_ceiling(anvil: Anvil) -> None:
    """Though the transaction itself pays far less: the chain asks for more than what may be paid."""
    client = new_client(anvil, blockchain_max_fee_gwei=50)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * GWEI))
    anvil.mine()
    with pytest.raises(FeeCeiling, match=r"BLOCKCHAIN_MAX_FEE_GWEI is 50"):
        client.replacement_fees(Fees(2 * GWEI, GWEI))


def test_fees_are_those_of_the_newest_block(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Told of a new head they are asked again; told of the same one they are not."""
    client.new_head(client.head().number)
    before = client.fees()
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(40 * GWEI))
    anvil.mine()
    client.new_head(client.head().number)
    after = client.fees()
    assert after.max_fee_wei > 2 * before.max_fee_wei
    asked = proxy.counts["eth_feeHistory"]
    client.new_head(client.head().number)
    client.fees()
    assert proxy.counts["eth_feeHistory"] == asked

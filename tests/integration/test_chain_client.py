"""Promise: the client deploys, anchors and reads on any node, with few requests, and signs only what the
guards let through."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account as Key

from pipeline.chain.answers import AnswerKind
from pipeline.chain.client import ChainClient
from pipeline.chain.fees import GWEI
from pipeline.chain.registry import Revert, RevertKind
from pipeline.chain.signer import SignedTransaction
from pipeline.errors import (
    FeeCeiling,
    InsufficientFunds,
    NoContract,
    NodeRejected,
    NodeUnreachable,
    NotAnIssuer,
    SettingsError,
    WrongChain,
)
from pipeline.settings import Settings
from tests.chain import AnyServer, mined, new_client, registered
from tests.servers.anvil import Anvil

# --- deploy, anchor, read ------------------------------------------------------------------------


def test_from_deployment_to_receipt(server: AnyServer) -> None:
    """Each step once, on each kind of node."""
    deployment = new_client(server).deploy()
    client = new_client(server, blockchain_contract_address=deployment.contract_address.lower())
    assert deployment.issuer == client.signer_address
    assert deployment.chain_id == server.chain_id == client.chain_id
    assert client.contract_address == deployment.contract_address
    client.check_guards()
    root = secrets.token_bytes(32)
    before, pending = client.transaction_counts()
    assert before == pending
    transaction = client.prepare_anchor(root, pending, client.fees())
    assert not client.is_anchored(root)
    assert client.send(transaction.raw).kind is AnswerKind.ACCEPTED
    receipt = mined(client, transaction)
    assert receipt.status == 1
    assert receipt.gas_used < transaction.gas_limit
    assert receipt.gas_price_wei <= transaction.max_fee_wei
    assert client.is_anchored(root)
    assert client.transaction_counts() == (before + 1, before + 1)
    block = client.block(receipt.block_number)
    assert block is not None
    assert (block.number, block.hash) == (receipt.block_number, receipt.block_hash)
    assert client.head().number >= receipt.block_number
    assert client.balance_wei() > 0


def test_deployments_are_independent(anvil: Anvil) -> None:
    """A second one has an address of its own, and needs no chain id in the settings."""
    client = new_client(anvil, blockchain_chain_id=None)
    first, second = client.deploy(), client.deploy()
    assert first.contract_address != second.contract_address
    assert {first.chain_id, second.chain_id} == {anvil.chain_id}
    assert second.block_number > first.block_number


def test_deployment_waits_until_it_is_mined(start_anvil: Callable[..., Anvil]) -> None:
    """On a chain with blocks of a second."""
    server = start_anvil(block_time_seconds=1)
    deployment = new_client(server).deploy()
    receipt = new_client(server).receipts([deployment.transaction_hash])[deployment.transaction_hash]
    assert receipt is not None
    assert receipt.block_number == deployment.block_number


def test_deployment_that_is_refused(anvil: Anvil) -> None:
    """Without money, on another chain, with a node's final no."""
    poor = new_client(anvil, blockchain_private_key=secrets.token_hex(32))
    with pytest.raises(InsufficientFunds):
        poor.deploy()
    with pytest.raises(WrongChain, match="serves chain 31337, BLOCKCHAIN_CHAIN_ID is 1"):
        new_client(anvil, blockchain_chain_id=1).deploy()

    class ForeignSigner:
        """Signs for another chain."""

        address = anvil.address

        def sign(self, transaction: Any) -> SignedTransaction:
            signed = Key.from_key(anvil.private_key).sign_transaction({**transaction, "chainId": 5})
            return SignedTransaction(bytes(signed.raw_transaction), "0x" + signed.hash.hex())

    foreign = ChainClient(Settings(blockchain_rpc_url=anvil.rpc_url), signer=ForeignSigner())
    with pytest.raises(NodeRejected, match="chain id"):
        foreign.deploy()


def test_receipts_and_blocks_in_one_go(anvil: Anvil) -> None:
    """Hundreds at once; what is in no block, or above the head, is None."""
    client = registered(anvil)
    transactions = [
        client.prepare_anchor(secrets.token_bytes(32), 1 + number, client.fees()) for number in range(150)
    ]
    for transaction in transactions:
        assert client.send(transaction.raw).taken
        mined(client, transaction)
    unknown = "0x" + "11" * 32
    receipts = client.receipts([unknown, *(transaction.hash for transaction in transactions)])
    assert list(receipts) == [unknown, *(transaction.hash for transaction in transactions)]
    assert receipts[unknown] is None
    numbers = [receipt.block_number for receipt in receipts.values() if receipt]
    assert len(numbers) == 150
    blocks = client.blocks([*numbers, 10**9])
    assert blocks[10**9] is None
    assert all(
        block.hash == receipt.block_hash
        for receipt in receipts.values()
        if receipt and (block := blocks[receipt.block_number])
    )
    assert client.receipts([]) == {}


def test_pending_transactions(anvil: Anvil) -> None:
    """One that waits in the pool has no receipt, and counts for the next nonce."""
    client = registered(anvil)
    client.check_guards()
    anvil.stop_mining()
    transaction = client.prepare_anchor(secrets.token_bytes(32), 1, client.fees())
    assert client.send(transaction.raw).taken
    assert client.receipts([transaction.hash]) == {transaction.hash: None}
    assert client.transaction_counts() == (1, 2)


@pytest.mark.parametrize("slots", [1, 32])
def test_finalized(start_anvil: Callable[..., Anvil], slots: int) -> None:
    """anvil calls final what is two epochs old."""
    server = start_anvil(slots_in_an_epoch=slots)
    server.mine(10)
    assert new_client(server).finalized_number() == (8 if slots == 1 else 0)


def test_legacy_chain(start_anvil: Callable[..., Anvil]) -> None:
    """Before London there is no base fee: a gas price is offered instead."""
    server = start_anvil(more=["--hardfork=berlin", "--gas-price=3000000000"])
    client = registered(server)
    fees = client.fees()
    assert fees.legacy
    transaction = client.prepare_anchor(secrets.token_bytes(32), 1, fees)
    assert client.send(transaction.raw).taken
    assert mined(client, transaction).gas_price_wei == fees.max_fee_wei


def test_why_a_transaction_failed(server: AnyServer) -> None:
    """In the contract's words, though its receipt says nothing but 0."""
    client = registered(server)
    client.check_guards()
    root = secrets.token_bytes(32)
    nonce = client.transaction_counts()[1]
    first, second = (client.prepare_anchor(root, nonce + number, client.fees()) for number in range(2))
    assert client.send(first.raw).taken
    assert client.send(second.raw).taken
    assert mined(client, first).status == 1
    receipt = mined(client, second)
    assert receipt.status == 0
    assert client.revert(receipt) == Revert(RevertKind.ALREADY_ANCHORED, "already anchored")


# --- guards --------------------------------------------------------------------------------------


def test_wrong_chain(anvil: Anvil) -> None:
    """Both ids are named."""
    client = registered(anvil)
    other = new_client(anvil, blockchain_chain_id=1, blockchain_contract_address=client.contract_address)
    with pytest.raises(WrongChain, match="the node serves chain 31337, BLOCKCHAIN_CHAIN_ID is 1"):
        other.check_guards()


def test_no_contract(anvil: Anvil) -> None:
    """Nothing at the address."""
    client = new_client(anvil, blockchain_contract_address="0x" + "ab" * 20)
    with pytest.raises(NoContract, match="there is no contract at 0x"):
        client.check_guards()


@pytest.mark.parametrize("code", ["0x00", "0x60006000fd", "0x60206000f3", "0xfe"])
def test_another_contract(anvil: Anvil, code: str) -> None:
    """Whatever it does: stop, revert, return a zero, fail."""
    address = "0x" + "ab" * 20
    anvil.rpc("anvil_setCode", address, code)
    client = new_client(anvil, blockchain_contract_address=address)
    with pytest.raises(NoContract):
        client.check_guards()


def test_not_an_issuer(anvil: Anvil) -> None:
    """A signer without the role."""
    stranger = anvil.accounts[1]
    client = new_client(
        anvil,
        blockchain_contract_address=registered(anvil).contract_address,
        blockchain_private_key=stranger.private_key,
    )
    with pytest.raises(NotAnIssuer, match=f"{stranger.address} is no issuer"):
        client.check_guards()


@pytest.mark.parametrize("balance_wei", [0, 10**9])
def test_not_enough_money(anvil: Anvil, balance_wei: int) -> None:
    """Less than one anchor may cost; topped up, it goes on within the 10 s without being told."""
    client = registered(anvil)
    anvil.rpc("anvil_setBalance", anvil.address, hex(balance_wei))
    with pytest.raises(InsufficientFunds, match=anvil.address):
        client.check_guards()
    anvil.rpc("anvil_setBalance", anvil.address, hex(10**18))
    client.check_guards()


def test_fee_ceiling(anvil: Anvil) -> None:
    """The market is above it: nothing is signed."""
    client = registered(anvil, blockchain_max_fee_gwei=0.5)
    for ask in (client.check_guards, client.fees):
        with pytest.raises(FeeCeiling, match=r"BLOCKCHAIN_MAX_FEE_GWEI is 0\.5"):
            ask()


def test_fees_are_clamped(anvil: Anvil) -> None:
    """Below twice the base fee, but above what the next block asks for."""
    assert new_client(anvil, blockchain_max_fee_gwei=2.5).fees().max_fee_wei == 2.5 * GWEI


def test_no_address(anvil: Anvil) -> None:
    """Only `deploy` can do without."""
    with pytest.raises(SettingsError, match="BLOCKCHAIN_CONTRACT_ADDRESS"):
        new_client(anvil).check_guards()


def test_node_down(anvil: Anvil) -> None:
    """Every read says so; a client can be made all the same."""
    anvil.stop()
    client = new_client(anvil, blockchain_contract_address="0x" + "ab" * 20)
    for ask in (client.check_guards, client.fees, client.head, client.transaction_counts, client.deploy):
        with pytest.raises(NodeUnreachable, match="can not be reached"):
            ask()


def test_guards_are_checked_again_after_the_node_was_lost(start_anvil: Callable[..., Anvil]) -> None:
    """A development chain that came back empty is noticed at once, not when the answer is old."""
    server = start_anvil()
    client = registered(server)
    client.check_guards()
    server.kill()
    with pytest.raises(NodeUnreachable):
        client.head()
    server.start()
    client.head()
    with pytest.raises(NoContract):
        client.check_guards()


# --- threads --------------------------------------------------------------------------------------


def test_threads_share_a_client(anvil: Anvil) -> None:
    """Five workers' threads at once: 100 transactions, one deployment's client.

    None is mined before all are there: what comes while the one before it is mined, anvil may leave out.
    """
    client = registered(anvil)
    anvil.stop_mining()
    client.check_guards()
    roots = [secrets.token_bytes(32) for _ in range(100)]
    transactions = [
        client.prepare_anchor(root, 1 + number, client.fees()) for number, root in enumerate(roots)
    ]
    kinds: list[AnswerKind] = []

    def work(part: int) -> None:
        for transaction in transactions[part::5]:
            client.check_guards()
            kinds.append(client.send(transaction.raw).kind)

    threads = [threading.Thread(target=work, args=[part]) for part in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds == [AnswerKind.ACCEPTED] * 100
    anvil.mine()
    assert {mined(client, transaction).status for transaction in transactions} == {1}
    assert all(client.is_anchored(root) for root in roots)

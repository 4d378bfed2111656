"""Promise: why a transaction failed is told by the state it met, or nobody is said to know."""

from __future__ import annotations

import secrets

import pytest

from pipeline.chain.blocks import Receipt
from pipeline.chain.client import ChainClient
from pipeline.chain.fees import GWEI, Fees
from pipeline.chain.registry import Revert, RevertKind, encode
from pipeline.chain.rpc import RpcError
from pipeline.chain.transaction import PreparedTransaction
from pipeline.errors import ChainError
from tests.chain import mined
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

BLOCK, CALL = "eth_getBlockByNumber", "eth_call"


class Owner:
    """Gives and takes the issuer's role; all waits for `Anvil.mine`."""

    def __init__(self, anvil: Anvil, client: ChainClient) -> None:
        self._anvil, self._client = anvil, client
        anvil.stop_mining()

    def role(self, name: str) -> None:
        """``addIssuer`` or ``removeIssuer`` with the signer's next nonce."""
        fields = {
            "from": self._anvil.address,
            "to": self._client.contract_address,
            "data": "0x" + encode(name, self._anvil.address).hex(),
            "maxFeePerGas": hex(20 * GWEI),
            "maxPriorityFeePerGas": hex(GWEI),
            "gas": hex(100_000),
        }
        self._anvil.rpc("eth_sendTransaction", fields)

    def anchor(self, root: bytes | None = None) -> PreparedTransaction:
        """An anchor with the signer's next nonce."""
        nonce = self._client.transaction_counts()[1]
        fees = Fees(20 * GWEI, GWEI)
        transaction = self._client.prepare_anchor(root or secrets.token_bytes(32), nonce, fees)
        assert self._client.send(transaction.raw).taken
        return transaction


def failed(client: ChainClient, transaction: PreparedTransaction) -> Receipt:
    """The receipt of what has failed."""
    receipt = mined(client, transaction)
    assert receipt.status == 0
    return receipt


NOT_AN_ISSUER = Revert(RevertKind.NOT_AN_ISSUER, "not an issuer")
ALREADY_ANCHORED = Revert(RevertKind.ALREADY_ANCHORED, "already anchored")


@pytest.mark.parametrize("given_back", ["never", "later", "in the same block"])
def test_without_the_role(anvil: Anvil, client: ChainClient, given_back: str) -> None:
    """Told by the state after the block, or by the one before it."""
    owner = Owner(anvil, client)
    owner.role("removeIssuer")
    anvil.mine()
    transaction = owner.anchor()
    if given_back == "in the same block":
        owner.role("addIssuer")
    anvil.mine()
    if given_back == "later":
        owner.role("addIssuer")
        anvil.mine()
    assert client.revert(failed(client, transaction)) == NOT_AN_ISSUER


def test_what_only_was_in_the_middle_of_a_block(anvil: Anvil, client: ChainClient) -> None:
    """Taken and given back in the block itself: nobody can tell any more."""
    owner = Owner(anvil, client)
    owner.role("removeIssuer")
    transaction = owner.anchor()
    owner.role("addIssuer")
    anvil.mine()
    revert = client.revert(failed(client, transaction))
    assert revert == Revert(RevertKind.OVER, "the same call succeeds now")


def anchored_twice(anvil: Anvil, client: ChainClient) -> Receipt:
    """The receipt of the second try."""
    owner = Owner(anvil, client)
    root = secrets.token_bytes(32)
    owner.anchor(root)
    second = owner.anchor(root)
    anvil.mine()
    return failed(client, second)


def test_a_node_that_has_forgotten_old_states(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """It calls with what it has now; without any state it is an error, not a reason."""
    receipt = anchored_twice(anvil, client)
    assert client.revert(receipt) == ALREADY_ANCHORED
    forgotten = proxy.answer_error(CALL, "missing trie node", None, when=lambda params: params[1] != "latest")
    assert client.revert(receipt) == ALREADY_ANCHORED
    forgotten.end()
    proxy.answer_error(CALL, "missing trie node", 3)
    with pytest.raises(RpcError, match="missing trie node"):
        client.revert(receipt)


def test_a_node_that_is_not_there_yet(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """It lacks the transaction, or has another block at that height: it can not tell, which is no reason."""
    receipt = anchored_twice(anvil, client)
    proxy.answer_result("eth_getTransactionByHash", None)
    with pytest.raises(ChainError, match="does not know transaction"):
        client.revert(receipt)
    for other in (None, anvil.rpc(BLOCK, "0x0", False)):
        proxy.answer_result(BLOCK, other)
        with pytest.raises(ChainError, match="another block"):
            client.revert(receipt)
    assert client.revert(receipt) == ALREADY_ANCHORED


def test_no_reason_was_given(anvil: Anvil, client: ChainClient) -> None:
    """Too little gas: the contract never came to say a word."""
    owner = Owner(anvil, client)
    client._guards._gas_limit = 25_000
    transaction = owner.anchor()
    anvil.mine()
    assert client.revert(failed(client, transaction)) == Revert(RevertKind.OTHER, "it gave no reason")

"""Promise: what real nodes say to a sent transaction is understood: anvil, and the embedded node, which
has geth's words."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account as Key

from pipeline.chain.answers import AnswerKind, SendAnswer
from pipeline.chain.rpc import RpcClient
from pipeline.embedded.evm import EvmServer
from tests.servers.anvil import Anvil

GWEI = 10**9


class Sender:
    """An account with money of its own, that sends whatever it is told to."""

    def __init__(self, server: Anvil | EvmServer) -> None:
        self.rpc = RpcClient([server.rpc_url])
        self.chain_id = server.chain_id
        self.key = Key.create()
        rich = Key.from_key(server.private_key)
        nonce = int(self.rpc.call("eth_getTransactionCount", [rich.address, "pending"]), 16)
        gift = self.raw(rich, nonce=nonce, to=self.key.address, value=10**18)
        assert self.rpc.broadcast(gift).taken
        while int(self.rpc.call("eth_getBalance", [self.key.address, "latest"]), 16) == 0:
            pass  # the test's time-out ends it

    def raw(self, key: Any = None, **fields: Any) -> bytes:
        """A signed transaction, which does nothing but what ``fields`` say."""
        key = key or self.key
        usual = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": 0,
            "to": key.address,
            "value": 0,
            "gas": 21_000,
            "maxFeePerGas": 50 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        }
        return bytes(key.sign_transaction({**usual, **fields}).raw_transaction)

    def send(self, **fields: Any) -> SendAnswer:
        """Sign and send it."""
        return self.rpc.broadcast(self.raw(**fields))


@pytest.fixture
def sender(server: Anvil | EvmServer) -> Sender:
    """A fresh account on each kind of node."""
    return Sender(server)


def test_accepted_and_already_known(anvil: Anvil) -> None:
    """The same bytes twice while they wait: both times they are in the pool."""
    sender = Sender(anvil)
    anvil.stop_mining()
    assert sender.send().kind is AnswerKind.ACCEPTED
    assert sender.send().kind is AnswerKind.ALREADY_KNOWN


def test_waiting_again_on_the_embedded_node(evm_server: EvmServer) -> None:
    """A transaction that waits for an earlier nonce, sent twice."""
    sender = Sender(evm_server)
    assert sender.send(nonce=1).kind is AnswerKind.ACCEPTED
    assert sender.send(nonce=1).kind is AnswerKind.ALREADY_KNOWN


def test_replacement_that_pays_too_little(sender: Sender) -> None:
    """Another transaction with the nonce of one that waits (for nonce 0, which is missing)."""
    assert sender.send(nonce=1).taken
    assert sender.send(nonce=1, value=1).kind is AnswerKind.UNDERPRICED_REPLACEMENT


def test_nonce_used(sender: Sender) -> None:
    """Another transaction with the nonce of a mined one."""
    assert sender.send().taken
    while int(sender.rpc.call("eth_getTransactionCount", [sender.key.address, "latest"]), 16) == 0:
        pass  # the test's time-out ends it
    assert sender.send(value=1).kind is AnswerKind.NONCE_USED


REFUSED: dict[str, tuple[dict[str, Any], AnswerKind]] = {
    "value above the balance": ({"value": 10**19}, AnswerKind.FUNDS),
    "too little gas": ({"gas": 20_000}, AnswerKind.FATAL),
    "tip above the cap": ({"maxPriorityFeePerGas": 60 * GWEI}, AnswerKind.FATAL),
    "another chain": ({"chainId": 5}, AnswerKind.FATAL),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(sender: Sender, case: str) -> None:
    """What no node takes."""
    fields, kind = REFUSED[case]
    answer = sender.send(**fields)
    assert answer.kind is kind, answer.text


def test_more_gas_than_a_block_has(sender: Sender) -> None:
    """With a fee so low that the balance would cover it."""
    answer = sender.send(gas=40_000_000, maxFeePerGas=2 * GWEI)
    assert answer.kind is AnswerKind.FATAL, answer.text


def test_fee_below_the_base_fee(anvil: Anvil) -> None:
    """anvil refuses what geth would let wait: a higher fee for the same nonce."""
    sender = Sender(anvil)
    assert sender.send(maxFeePerGas=1, maxPriorityFeePerGas=1).kind is AnswerKind.REPRICE


@pytest.mark.parametrize("raw", [b"", b"\x02\xff", b"\x01", b"\xc0"])
def test_what_is_no_transaction(sender: Sender, raw: bytes) -> None:
    """Bytes that can not be read; unknown would send them for ever."""
    answer = sender.rpc.broadcast(raw)
    assert answer.kind is AnswerKind.FATAL, answer.text


def test_nobody_answers(start_anvil: Callable[..., Anvil]) -> None:
    """Nobody is there: unknown, and no exception."""
    server = start_anvil()
    server.stop()
    answer = RpcClient([server.rpc_url]).broadcast(secrets.token_bytes(100))
    assert answer.kind is AnswerKind.UNKNOWN
    assert answer.text == f"{server.rpc_url} can not be reached"

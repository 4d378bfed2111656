"""Deploying a registry: one transaction, and the wait until it is mined."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.chain.answers import AnswerKind, SendAnswer
from pipeline.chain.blocks import Receipt, quantity
from pipeline.chain.contracts import registry_artifact
from pipeline.chain.fees import FeeMarket
from pipeline.chain.rpc import RpcClient
from pipeline.chain.signer import Signer
from pipeline.chain.transaction import PreparedTransaction, prepare
from pipeline.errors import ChainError, InsufficientFunds, NodeRejected, TransactionReverted

POLL_SECONDS = 0.5
GAS_MARGIN_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Deployment:
    """A registry just deployed; ``issuer`` is the signer: its owner and first issuer."""

    contract_address: str
    transaction_hash: str
    block_number: int
    chain_id: int
    issuer: str


def deploy(
    rpc: RpcClient,
    market: FeeMarket,
    signer: Signer,
    *,
    chain_id: int,
    timeout_seconds: float,
    choose_nonce: Callable[[int, str, int], int] | None = None,
) -> Deployment:
    """Deploy a new registry; returns when it is mined.

    The nonce is the next one in the node's pool, or what ``choose_nonce`` makes of chain id, signer
    and that one. Raises `InsufficientFunds`, `FeeCeiling`,
    `NodeRejected`, `NodeUnreachable`, `TransactionReverted`; `ChainError` naming the transaction
    when time is up.
    """
    from eth_utils.address import to_checksum_address

    transaction = _prepared(rpc, market, signer, chain_id, choose_nonce or (lambda _, __, pending: pending))
    receipt = _mined(rpc, transaction, timeout_seconds)
    if receipt.status != 1 or receipt.contract_address is None:
        raise TransactionReverted(f"the deployment {transaction.hash} was mined and failed")
    return Deployment(
        contract_address=to_checksum_address(receipt.contract_address),
        transaction_hash=transaction.hash,
        block_number=receipt.block_number,
        chain_id=chain_id,
        issuer=signer.address,
    )


def _prepared(
    rpc: RpcClient,
    market: FeeMarket,
    signer: Signer,
    chain_id: int,
    choose_nonce: Callable[[int, str, int], int],
) -> PreparedTransaction:
    bytecode = registry_artifact().bytecode
    pending = quantity(rpc.call("eth_getTransactionCount", [signer.address, "pending"]))
    gas = quantity(rpc.call("eth_estimateGas", [{"from": signer.address, "data": "0x" + bytecode.hex()}]))
    fees = market.current()
    return prepare(
        signer,
        chain_id=chain_id,
        # Last of all: what fails before it must not use one up.
        nonce=choose_nonce(chain_id, signer.address, pending),
        to=None,
        data=bytecode,
        gas_limit=gas * (100 + GAS_MARGIN_PERCENT) // 100,
        fees=fees,
    )


def _mined(rpc: RpcClient, transaction: PreparedTransaction, timeout_seconds: float) -> Receipt:
    """Send, and look for the receipt; send the same bytes again while nobody is sure to have them."""
    deadline = time.monotonic() + timeout_seconds
    sent = SendAnswer(AnswerKind.UNKNOWN)
    while True:
        if sent.kind is AnswerKind.UNKNOWN:
            sent = rpc.broadcast(transaction.raw)
        found = rpc.call("eth_getTransactionReceipt", [transaction.hash])
        if found:
            return Receipt.from_rpc(found)
        _refuse(sent)
        if time.monotonic() > deadline:
            raise ChainError(
                f"the deployment {transaction.hash} was not mined within {timeout_seconds:g} s: look later"
            )
        time.sleep(POLL_SECONDS)  # over HTTP a node tells nobody of a block


def _refuse(sent: SendAnswer) -> None:
    if sent.kind is AnswerKind.FUNDS:
        raise InsufficientFunds(f"the deployment was refused: {sent.text}")
    if not sent.taken and sent.kind is not AnswerKind.UNKNOWN:
        raise NodeRejected(f"the deployment was refused: {sent.text}")

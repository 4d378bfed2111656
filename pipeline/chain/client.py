"""The chain as actors and commands see it: guards, heads and receipts, anchors, sends.

web3 is imported at the first call that reaches for a node or the key, not before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

from pipeline.chain.answers import SendAnswer
from pipeline.chain.blocks import Block, Receipt, quantity
from pipeline.chain.deployment import Deployment, deploy
from pipeline.chain.fees import GWEI, FeeMarket, Fees
from pipeline.chain.guards import Account, Guards
from pipeline.chain.registry import Registry, revert_text
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.chain.signer import Signer, load_signer
from pipeline.chain.transaction import PreparedTransaction, prepare
from pipeline.chain.wire import Request
from pipeline.errors import SettingsError, WrongChain
from pipeline.settings import Settings, get_settings


class ChainClient:
    """One for a process, shared by its threads. Every method that asks a node raises `NodeUnreachable`."""

    def __init__(
        self, settings: Settings, rpc: RpcClient | None = None, signer: Signer | None = None
    ) -> None:
        self._settings = settings
        self._given_signer = signer
        self._lock = threading.RLock()
        self.rpc = rpc or RpcClient.from_settings(settings)
        self._market = FeeMarket(self.rpc, ceiling_wei=int(settings.blockchain_max_fee_gwei * GWEI))

    @classmethod
    def from_settings(cls, settings: Settings) -> ChainClient:
        """A client that connects to nothing and reads no key until it is asked something."""
        return cls(settings)

    # --- who and where -------------------------------------------------------------------

    @property
    def signer_address(self) -> str:
        """Checksummed. Raises `SettingsError` when the key can not be read."""
        return self._signer.address

    @cached_property
    def chain_id(self) -> int:
        """The chain that is written to: BLOCKCHAIN_CHAIN_ID, or the node's where that is unset."""
        return self._settings.blockchain_chain_id or quantity(self.rpc.call("eth_chainId"))

    @cached_property
    def registry(self) -> Registry:
        """The configured registry. Raises `SettingsError` when no address is set."""
        from eth_utils.address import to_checksum_address

        address = self._settings.blockchain_contract_address
        if address is None:
            raise SettingsError("wrong settings: BLOCKCHAIN_CONTRACT_ADDRESS: is required")
        return Registry(self.rpc, to_checksum_address(address))

    @property
    def contract_address(self) -> str:
        """The registry's, checksummed."""
        return self.registry.address

    @property
    def _signer(self) -> Signer:
        with self._lock:
            if self._given_signer is None:
                self._given_signer = load_signer(self._settings)
            return self._given_signer

    # --- before a write ------------------------------------------------------------------

    @cached_property
    def _guards(self) -> Guards:
        return Guards(self.rpc, self._market, Account(self.chain_id, self.registry, self.signer_address))

    def check_guards(self) -> None:
        """See that the next anchor may be signed; the answer holds for 10 s.

        Asked again at once after a node was lost or changed. Raises `WrongChain`, `NoContract`,
        `NotAnIssuer`, `InsufficientFunds`, `FeeCeiling`, `NodeUnreachable`, `SettingsError`.
        """
        self._guards.check()

    def fees(self) -> Fees:
        """What a transaction should offer, at most 2 s old. Raises `FeeCeiling`."""
        return self._market.current()

    def balance_wei(self) -> int:
        """What the signer has."""
        return quantity(self.rpc.call("eth_getBalance", [self.signer_address, "latest"]))

    def transaction_counts(self) -> tuple[int, int]:
        """The signer's transactions: (mined, mined and in the node's pool). Each is a next nonce."""
        address = self.signer_address
        mined, pending = self._all(
            [
                ("eth_getTransactionCount", [address, "latest"]),
                ("eth_getTransactionCount", [address, "pending"]),
            ]
        )
        return quantity(mined), quantity(pending)

    # --- a write -------------------------------------------------------------------------

    def prepare_anchor(self, root: bytes, nonce: int, fees: Fees) -> PreparedTransaction:
        """Sign ``anchor(root)`` (32 bytes); nothing is sent, and after `check_guards` no node asked."""
        return prepare(
            self._signer,
            chain_id=self.chain_id,
            nonce=nonce,
            to=self.contract_address,
            data=self.registry.anchor_calldata(root),
            gas_limit=self._guards.gas_limit(),
            fees=fees,
        )

    def send(self, raw: bytes) -> SendAnswer:
        """Hand these bytes to a node. Never raises for what a node says, or that none answers."""
        return self.rpc.broadcast(raw)

    def deploy(self, timeout_seconds: float = 300) -> Deployment:
        """Deploy a new registry, and wait until it is mined; needs a signer and no contract address.

        Raises what `pipeline.chain.deployment.deploy` does, and `WrongChain`.
        """
        served = quantity(self.rpc.call("eth_chainId"))
        if served != self.chain_id:
            raise WrongChain(f"the node serves chain {served}, BLOCKCHAIN_CHAIN_ID is {self.chain_id}")
        return deploy(self.rpc, self._market, self._signer, chain_id=served, timeout_seconds=timeout_seconds)

    # --- after a write -------------------------------------------------------------------

    def head(self) -> Block:
        """The newest block."""
        return Block.from_rpc(self.rpc.call("eth_getBlockByNumber", ["latest", False]))

    def block(self, number: int) -> Block | None:
        """The canonical block at that height; None above the head."""
        return self.blocks([number])[number]

    def blocks(self, numbers: Sequence[int]) -> dict[int, Block | None]:
        """The canonical blocks at those heights, None above the head; one HTTP request a hundred."""
        found = self._all([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
        return {
            number: Block.from_rpc(block) if block else None
            for number, block in zip(numbers, found, strict=True)
        }

    def finalized_number(self) -> int | None:
        """The height that the node calls final; None where it serves no such thing."""
        try:
            block = self.rpc.call("eth_getBlockByNumber", ["finalized", False])
        except RpcError:
            return None
        return quantity(block["number"]) if block else None

    def receipts(self, hashes: Sequence[str]) -> dict[str, Receipt | None]:
        """The receipts of these transactions, None for one in no block; one HTTP request a hundred."""
        found = self._all([("eth_getTransactionReceipt", [hash_]) for hash_ in hashes])
        return {
            hash_: Receipt.from_rpc(receipt) if receipt and receipt.get("blockHash") else None
            for hash_, receipt in zip(hashes, found, strict=True)
        }

    def is_anchored(self, root: bytes) -> bool:
        """Whether the registry has this Merkle root, whoever anchored it."""
        return self.registry.is_anchored(root)

    def revert_reason(self, receipt: Receipt) -> str:
        """Why a transaction of status 0 failed: the contract's words, without "registry: ".

        Found by calling again on the state of that block (no node keeps the reason); when that
        succeeds, the text says so.
        """
        mined = self.rpc.call("eth_getTransactionByHash", [receipt.transaction_hash])
        if not mined:
            return "the node does not know the transaction any more"
        call = {"from": mined["from"], "to": mined["to"], "gas": mined["gas"], "data": mined["input"]}
        try:
            self.rpc.call("eth_call", [call, hex(receipt.block_number)])
        except RpcError as error:
            return revert_text(error) or "it gave no reason"
        return "the same call succeeds now"

    def _all(self, requests: Sequence[Request]) -> list[Any]:
        """The results of a batch. Raises the first `RpcError` in it."""
        results = self.rpc.batch(requests)
        for result in results:
            if isinstance(result, RpcError):
                raise result
        return results


@cache
def chain_client() -> ChainClient:
    """This process's client, for the process's settings."""
    return ChainClient.from_settings(get_settings())

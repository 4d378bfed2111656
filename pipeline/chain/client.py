"""The chain as actors and commands see it: guards, heads and receipts, anchors, sends.

web3 is imported at the first call that reaches for a node or the key, not before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

from pipeline.chain.answers import SendAnswer
from pipeline.chain.block_receipts import BlockReceipts
from pipeline.chain.blocks import Block, Heads, Receipt, quantity
from pipeline.chain.deployment import Deployment, deploy
from pipeline.chain.fees import GWEI, FeeMarket, Fees
from pipeline.chain.guards import FIRST_BLOCK, Account, Expected, Guards, first_hash, with_margin
from pipeline.chain.registry import Registry, Revert
from pipeline.chain.reverts import explain
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.chain.signer import Signer, load_signer
from pipeline.chain.transaction import PreparedTransaction, prepare
from pipeline.chain.wire import Request
from pipeline.errors import SettingsError, WrongChain
from pipeline.settings import Settings, get_settings

logger = logging.getLogger(__name__)

#: What a transfer to an account without code takes on most chains (yellow paper, appendix G).
TRANSFER_GAS = 21_000


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
        self._genesis: tuple[int, str] | None = None
        self._filler_gas: int | None = None
        self._block_receipts = BlockReceipts(self.rpc)

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

    @property
    def reconnects(self) -> int:
        """Another one than before: the node was lost or changed, and what was seen of it is stale."""
        return self.rpc.reconnects

    # --- before a write ------------------------------------------------------------------

    @cached_property
    def _guards(self) -> Guards:
        account = Account(self.chain_id, self.registry, self.signer_address)
        needs_finality = self._settings.blockchain_confirmations == "finalized"
        return Guards(self.rpc, self._market, account, needs_finality=needs_finality)

    def check_guards(
        self, *, fresh: bool = False, reserved_wei: int = 0, genesis_hash: str | None = None
    ) -> int:
        """See that the next anchor may be signed; the answer holds for 10 s.

        Returns how many the balance pays for, when it was last asked.

        Asked again at once after a node was lost or changed; with ``fresh``, what can change from
        block to block is asked in any case. ``reserved_wei`` is what is sent and not mined may
        still cost, ``genesis_hash`` the first block of the chain that was written to before.
        Raises `WrongChain`, `ChainReset`, `NoContract`, `NotAnIssuer`, `InsufficientFunds`,
        `FeeCeiling`, `NodeUnreachable`, `SettingsError`.
        """
        return self._guards.check(Expected(genesis_hash, reserved_wei), fresh=fresh)

    def genesis_hash(self) -> str:
        """The hash of the chain's first block; asked again after a node was lost or changed."""
        # Counted before: an answer that came with a change of node is not believed for longer.
        reconnects = self.rpc.reconnects
        if self._genesis is None or self._genesis[0] != reconnects:
            self._genesis = (reconnects, first_hash(self.rpc.call(*FIRST_BLOCK)))
        return self._genesis[1]

    def fees(self) -> Fees:
        """What a transaction should offer, at most 2 s old. Raises `FeeCeiling`."""
        return self._market.current()

    def replacement_fees(self, previous: Fees) -> Fees:
        """What has to be offered in place of ``previous``: both an eighth more. Raises `FeeCeiling`."""
        return self._market.replacement(previous)

    def new_head(self, number: int) -> None:
        """Fees that were asked for an earlier block are outdated."""
        self._market.new_head(number)

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

    def prepare_filler(self, nonce: int, fees: Fees) -> PreparedTransaction:
        """Sign a transfer of nothing to oneself, which uses up ``nonce``; nothing is sent.

        The first one asks the node for the gas.
        """
        return prepare(
            self._signer,
            chain_id=self.chain_id,
            nonce=nonce,
            to=self.signer_address,
            data=b"",
            gas_limit=self._transfer_gas(),
            fees=fees,
        )

    def prepare_anchor(
        self, root: bytes, nonce: int, fees: Fees, *, to: str | None = None, gas_limit: int | None = None
    ) -> PreparedTransaction:
        """Sign ``anchor(root)`` (32 bytes); nothing is sent, and after `check_guards` no node asked.

        ``to`` and ``gas_limit`` are those of the transaction that it is to replace.
        """
        return prepare(
            self._signer,
            chain_id=self.chain_id,
            nonce=nonce,
            to=to or self.contract_address,
            data=self.registry.anchor_calldata(root),
            gas_limit=gas_limit or self._guards.gas_limit(),
            fees=fees,
        )

    def _transfer_gas(self) -> int:
        """More than `TRANSFER_GAS` where a chain charges for more, or the account has code (EIP-7702)."""
        if self._filler_gas is None:
            address = self.signer_address
            try:
                asked = quantity(
                    self.rpc.call("eth_estimateGas", [{"from": address, "to": address, "value": "0x0"}])
                )
            except RpcError:
                return TRANSFER_GAS
            self._filler_gas = asked if asked == TRANSFER_GAS else with_margin(asked)
        return self._filler_gas

    def send(self, raw: bytes) -> SendAnswer:
        """Hand these bytes to a node. Never raises for what a node says, or that none answers."""
        return self.send_many([raw])[0]

    def send_many(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """The same with several, in their order, and an answer for each; one HTTP request a hundred."""
        return self.rpc.broadcast_many(raws)

    def deploy(
        self, timeout_seconds: float = 300, *, choose_nonce: Callable[[int, str, int], int] | None = None
    ) -> Deployment:
        """Deploy a new registry, and wait until it is mined; needs a signer and no contract address.

        ``choose_nonce`` gets chain id, signer and the next nonce of the node's pool, which is taken
        without it. Raises what `pipeline.chain.deployment.deploy` does, and `WrongChain`.
        """
        served = quantity(self.rpc.call("eth_chainId"))
        if served != self.chain_id:
            raise WrongChain(f"the node serves chain {served}, BLOCKCHAIN_CHAIN_ID is {self.chain_id}")
        return deploy(
            self.rpc,
            self._market,
            self._signer,
            chain_id=served,
            timeout_seconds=timeout_seconds,
            choose_nonce=choose_nonce,
        )

    # --- after a write -------------------------------------------------------------------

    def is_syncing(self) -> bool:
        """Whether the node says that it has not caught up with the chain."""
        return bool(self.rpc.call("eth_syncing"))

    def client_version(self) -> str:
        """What the node says it is, such as ``geth/v1.16.7-stable/…``; empty where it does not tell."""
        try:
            return str(self.rpc.call("web3_clientVersion") or "")
        except RpcError:
            return ""

    def heads(self, signer: str | None = None) -> Heads:
        """How far the chain is, and ``signer`` (its own by default) on it; one node, one HTTP request."""
        address = signer or self.signer_address
        head, finalized, mined, pending = self.rpc.batch(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getBlockByNumber", ["finalized", False]),
                ("eth_getTransactionCount", [address, "latest"]),
                ("eth_getTransactionCount", [address, "pending"]),
            ]
        )
        known = not isinstance(finalized, RpcError) and finalized
        return Heads(
            head=Block.from_rpc(_result(head)),
            finalized=quantity(finalized["number"]) if known else None,
            mined_nonce=quantity(_result(mined)),
            pending_nonce=quantity(_result(pending)),
        )

    def is_foreign(self, signer: str, nonce: int, hashes: Sequence[str]) -> bool:
        """Whether ``nonce`` was used by a transaction that is none of these.

        One HTTP request: a node that counts the nonce and knows of none of them has to say it all.
        """
        used, *found = self._all(
            [
                ("eth_getTransactionCount", [signer, "latest"]),
                *(("eth_getTransactionReceipt", [hash_]) for hash_ in hashes),
                *(("eth_getTransactionByHash", [hash_]) for hash_ in hashes),
            ]
        )
        return quantity(used) > nonce and not any(found)

    def head(self) -> Block:
        """The newest block."""
        return Block.from_rpc(self.rpc.call("eth_getBlockByNumber", ["latest", False]))

    def block(self, number: int) -> Block | None:
        """The canonical block at that height; None above the head."""
        return self.blocks([number])[number]

    def blocks(self, numbers: Sequence[int]) -> dict[int, Block | None]:
        """The canonical blocks at those heights, None above the head; one HTTP request a hundred.

        None also for one of which the node can not tell, old ones for instance; the log has its words.
        """
        return self.receipts_and_blocks([], numbers)[1]

    def finalized_number(self) -> int | None:
        """The height that the node calls final; None where it serves no such thing."""
        try:
            block = self.rpc.call("eth_getBlockByNumber", ["finalized", False])
        except RpcError:
            return None
        return quantity(block["number"]) if block else None

    def block_receipts(self, numbers: Sequence[int]) -> dict[int, list[Receipt] | None]:
        """All receipts of the canonical blocks at those heights, None above the head.

        Raises `BlockReceiptsUnsupported`, also without asking while the same node is asked.
        """
        return self._block_receipts.of(numbers)

    def knows(self, hashes: Sequence[str]) -> dict[str, bool]:
        """Of which of these transactions the node knows, mined or in its pool."""
        found = self._all([("eth_getTransactionByHash", [hash_]) for hash_ in hashes])
        return {hash_: bool(transaction) for hash_, transaction in zip(hashes, found, strict=True)}

    def receipts(self, hashes: Sequence[str]) -> dict[str, Receipt | None]:
        """The receipts of these transactions, None for one in no block; one HTTP request a hundred.

        None also for one of which the node can not tell just now; the log has its words.
        """
        return self.receipts_and_blocks(hashes, [])[0]

    def receipts_and_blocks(
        self, hashes: Sequence[str], numbers: Sequence[int]
    ) -> tuple[dict[str, Receipt | None], dict[int, Block | None]]:
        """`receipts` and `blocks` in one HTTP request: of one node, where several stand behind a URL."""
        answers = self.rpc.batch(
            [
                *(("eth_getTransactionReceipt", [hash_]) for hash_ in hashes),
                *(("eth_getBlockByNumber", [hex(number), False]) for number in numbers),
            ]
        )
        found = [None if isinstance(answer, RpcError) else answer for answer in answers]
        if unknown := [answer for answer in answers if isinstance(answer, RpcError)]:
            logger.warning("%d of %d answers are missing: %s", len(unknown), len(answers), unknown[0].message)
        return _receipts(hashes, found[: len(hashes)]), _blocks(numbers, found[len(hashes) :])

    def is_anchored(self, root: bytes) -> bool:
        """Whether the registry has this Merkle root, whoever anchored it."""
        return self.registry.is_anchored(root)

    def anchoring_transaction(self, root: bytes) -> str | None:
        """The hash of the transaction that anchored this root; None: nobody did, or the node has no log."""
        return self.registry.anchoring_transaction(root)

    def revert(self, receipt: Receipt) -> Revert:
        """Why a transaction of status 0 failed. Raises `ChainError` when the node can not tell yet."""
        return explain(self.rpc, receipt)

    def _all(self, requests: Sequence[Request]) -> list[Any]:
        """The results of a batch. Raises the first `RpcError` in it."""
        results = self.rpc.batch(requests)
        for result in results:
            if isinstance(result, RpcError):
                raise result
        return results


def _receipts(hashes: Sequence[str], found: Sequence[Any]) -> dict[str, Receipt | None]:
    return {
        hash_: Receipt.from_rpc(receipt) if receipt and receipt.get("blockHash") else None
        for hash_, receipt in zip(hashes, found, strict=True)
    }


def _blocks(numbers: Sequence[int], found: Sequence[Any]) -> dict[int, Block | None]:
    return {
        number: Block.from_rpc(block) if block else None for number, block in zip(numbers, found, strict=True)
    }


def _result(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise answer
    return answer


@cache
def chain_client() -> ChainClient:
    """This process's client, for the process's settings."""
    return ChainClient.from_settings(get_settings())

"""What must hold before something is signed: the right chain, a registry, the role, money.

Asked in one request, together with the gas that an anchor takes, and believed for a while.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from pipeline.chain.blocks import quantity
from pipeline.chain.contracts import REGISTRY_VERSION
from pipeline.chain.fees import FeeMarket
from pipeline.chain.registry import NOT_AN_ISSUER, Registry, encode, revert_text
from pipeline.chain.rpc import RpcClient, RpcError
from pipeline.errors import (
    ChainError,
    ChainReset,
    InsufficientFunds,
    NoContract,
    NotAnIssuer,
    SettingsError,
    WrongChain,
)

#: An answer is believed for so long, unless the node was lost in between.
MAX_AGE_SECONDS = 10.0
FIRST_BLOCK = ("eth_getBlockByNumber", ["0x0", False])
FINAL_BLOCK = ("eth_getBlockByNumber", ["finalized", False])
#: Room over the estimate: a root with fewer zero bytes, a chain that reprices an opcode.
GAS_MARGIN_PERCENT = 20
WEI_PER_COIN = 10**18


@dataclass(frozen=True, slots=True)
class Account:
    """Who writes where: chain id, registry and signer, addresses checksummed."""

    chain_id: int
    registry: Registry
    signer: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What somebody else knows: the hash of the chain's first block, and what is spent already, in wei."""

    genesis_hash: str | None = None
    reserved_wei: int = 0


class Guards:
    """The guards for one account. Threads may share it."""

    def __init__(
        self, rpc: RpcClient, market: FeeMarket, account: Account, *, needs_finality: bool = False
    ) -> None:
        self._rpc = rpc
        self._needs_finality = needs_finality
        self._market = market
        self._account = account
        self._lock = threading.Lock()
        self._checked_at: float | None = None
        self._checked_reconnects = 0
        self._gas_limit = 0
        self._affordable = 0

    def check(self, expected: Expected = Expected(), *, fresh: bool = False) -> int:
        """Ask, unless the last answer still holds; with ``fresh`` ask again what may change at any time.

        Returns how many anchors the balance pays for, besides what is spent already.
        Raises `WrongChain`, `ChainReset`, `NoContract`, `NotAnIssuer`, `InsufficientFunds`,
        `FeeCeiling`, `NodeUnreachable`; `SettingsError` where finality is needed and not served.
        """
        with self._lock:
            if not self._fresh():
                self._checked_at = None
                self._ask(expected)
            elif fresh:
                self._ask_again(expected)
            return self._affordable

    def gas_limit(self) -> int:
        """What an anchor may use; asked at the node only when nothing was checked so far."""
        if not self._gas_limit:
            self.check()
        return self._gas_limit

    def _fresh(self) -> bool:
        return (
            self._checked_at is not None
            and time.monotonic() - self._checked_at < MAX_AGE_SECONDS
            and self._checked_reconnects == self._rpc.reconnects
        )

    def _ask_again(self, expected: Expected) -> None:
        """Chain, role and money; code and gas stay what they were."""
        registry, signer = self._account.registry, self._account.signer
        checked_at, self._checked_at = self._checked_at, None
        chain_id, first, is_issuer, balance = self._rpc.batch(
            [
                ("eth_chainId", []),
                FIRST_BLOCK,
                registry.request("isIssuer", signer),
                ("eth_getBalance", [signer, "latest"]),
            ]
        )
        self._check_chain(chain_id, first, expected)
        self._check_role(is_issuer)
        self._check_balance(balance, expected)
        if self._rpc.reconnects != self._checked_reconnects:
            self._ask(expected)  # another node has answered: its registry was not looked at
        else:
            self._checked_at = checked_at

    def _ask(self, expected: Expected) -> None:
        registry, signer = self._account.registry, self._account.signer
        # Counted before: an answer that came with a change of node is not believed for longer.
        reconnects = self._rpc.reconnects
        # A root that nobody has anchored, so that only the role can be in the way.
        probe = "0x" + encode("anchor", os.urandom(32)).hex()
        chain_id, first, version, is_issuer, balance, gas, *final = self._rpc.batch(
            [
                ("eth_chainId", []),
                FIRST_BLOCK,
                registry.request("version"),
                registry.request("isIssuer", signer),
                ("eth_getBalance", [signer, "latest"]),
                ("eth_estimateGas", [{"from": signer, "to": registry.address, "data": probe}]),
                *([FINAL_BLOCK] if self._needs_finality else []),
            ]
        )
        self._check_chain(chain_id, first, expected)
        self._check_finality(final)
        self._check_contract(version)
        self._check_role(is_issuer)
        self._gas_limit = with_margin(self._checked_gas(gas))
        self._check_balance(balance, expected)
        self._checked_reconnects = reconnects
        self._checked_at = time.monotonic()

    def _check_chain(self, answer: Any, first: Any, expected: Expected) -> None:
        chain_id = quantity(_result(answer))
        if chain_id != self._account.chain_id:
            raise WrongChain(
                f"the node serves chain {chain_id}, BLOCKCHAIN_CHAIN_ID is {self._account.chain_id}"
            )

        if expected.genesis_hash is not None and (found := first_hash(first)) != expected.genesis_hash:
            raise ChainReset(chain_id, expected.genesis_hash, found)

    def _check_finality(self, answers: list[Any]) -> None:
        if any(isinstance(answer, RpcError) or not answer for answer in answers):
            raise SettingsError(
                "BLOCKCHAIN_CONFIRMATIONS is finalized, and the node calls no block final: nothing would "
                "ever be confirmed; use a number of blocks, or another node"
            )

    def _check_contract(self, answer: Any) -> None:
        registry = self._account.registry
        (version,) = registry.decode("version", answer)
        if version != REGISTRY_VERSION:
            raise NoContract(f"the contract at {registry.address} is not a {REGISTRY_VERSION}")

    def _check_role(self, answer: Any) -> None:
        (is_issuer,) = self._account.registry.decode("isIssuer", answer)
        if not is_issuer:
            raise self._not_an_issuer()

    def _checked_gas(self, answer: Any) -> int:
        if isinstance(answer, RpcError) and revert_text(answer) == NOT_AN_ISSUER:
            raise self._not_an_issuer()
        return quantity(_result(answer))

    def _check_balance(self, answer: Any, expected: Expected) -> None:
        balance_wei = quantity(_result(answer))
        needed_wei = self._gas_limit * self._market.current().max_fee_wei
        self._affordable = (balance_wei - expected.reserved_wei) // max(needed_wei, 1)
        if self._affordable > 0:
            return
        sent = f" besides {expected.reserved_wei / WEI_PER_COIN:g} for what is sent" * bool(
            expected.reserved_wei
        )
        raise InsufficientFunds(
            f"{self._account.signer} has {balance_wei / WEI_PER_COIN:g}, "
            f"one anchor may cost up to {needed_wei / WEI_PER_COIN:g}{sent}"
        )

    def _not_an_issuer(self) -> NotAnIssuer:
        registry, signer = self._account.registry, self._account.signer
        return NotAnIssuer(f"{signer} is no issuer of the registry at {registry.address}")


def with_margin(gas: int) -> int:
    """A gas limit for an estimate; what is not used costs nothing."""
    return gas * (100 + GAS_MARGIN_PERCENT) // 100


def first_hash(answer: Any) -> str:
    """The hash in an answer to `FIRST_BLOCK`. Raises `RpcError`, `ChainError` when there is none."""
    block = _result(answer)
    if not block:
        raise ChainError("the node does not serve the chain's first block, by which a chain is known")
    return str(block["hash"])


def _result(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise answer
    return answer

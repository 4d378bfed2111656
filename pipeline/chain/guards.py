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
from pipeline.errors import InsufficientFunds, NoContract, NotAnIssuer, WrongChain

#: An answer is believed for so long, unless the node was lost in between.
MAX_AGE_SECONDS = 10.0
#: Room over the estimate: a root with fewer zero bytes, a chain that reprices an opcode.
GAS_MARGIN_PERCENT = 20
WEI_PER_COIN = 10**18


@dataclass(frozen=True, slots=True)
class Account:
    """Who writes where: chain id, registry and signer, addresses checksummed."""

    chain_id: int
    registry: Registry
    signer: str


class Guards:
    """The guards for one account. Threads may share it."""

    def __init__(self, rpc: RpcClient, market: FeeMarket, account: Account) -> None:
        self._rpc = rpc
        self._market = market
        self._account = account
        self._lock = threading.Lock()
        self._checked_at: float | None = None
        self._checked_reconnects = 0
        self._gas_limit = 0

    def check(self) -> None:
        """Ask, unless the last answer still holds.

        Raises `WrongChain`, `NoContract`, `NotAnIssuer`, `InsufficientFunds`, `FeeCeiling`,
        `NodeUnreachable`.
        """
        with self._lock:
            if not self._fresh():
                self._checked_at = None
                self._ask()

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

    def _ask(self) -> None:
        registry, signer = self._account.registry, self._account.signer
        # A root that nobody has anchored, so that only the role can be in the way.
        probe = "0x" + encode("anchor", os.urandom(32)).hex()
        chain_id, version, is_issuer, balance, gas = self._rpc.batch(
            [
                ("eth_chainId", []),
                registry.request("version"),
                registry.request("isIssuer", signer),
                ("eth_getBalance", [signer, "latest"]),
                ("eth_estimateGas", [{"from": signer, "to": registry.address, "data": probe}]),
            ]
        )
        self._check_chain(chain_id)
        self._check_contract(version)
        self._check_role(is_issuer)
        self._gas_limit = self._checked_gas(gas) * (100 + GAS_MARGIN_PERCENT) // 100
        self._check_balance(balance, self._gas_limit)
        self._checked_reconnects = self._rpc.reconnects
        self._checked_at = time.monotonic()

    def _check_chain(self, answer: Any) -> None:
        chain_id = quantity(_result(answer))
        if chain_id != self._account.chain_id:
            raise WrongChain(
                f"the node serves chain {chain_id}, BLOCKCHAIN_CHAIN_ID is {self._account.chain_id}"
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

    def _check_balance(self, answer: Any, gas_limit: int) -> None:
        balance_wei = quantity(_result(answer))
        needed_wei = gas_limit * self._market.current().max_fee_wei
        if balance_wei < needed_wei:
            raise InsufficientFunds(
                f"{self._account.signer} has {balance_wei / WEI_PER_COIN:g}, "
                f"one anchor may cost up to {needed_wei / WEI_PER_COIN:g}"
            )

    def _not_an_issuer(self) -> NotAnIssuer:
        registry, signer = self._account.registry, self._account.signer
        return NotAnIssuer(f"{signer} is no issuer of the registry at {registry.address}")


def _result(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise answer
    return answer

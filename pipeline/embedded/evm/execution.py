"""Trial runs: ``eth_call`` and ``eth_estimateGas``."""

from __future__ import annotations

from typing import Any

from eth.constants import ZERO_ADDRESS
from eth.exceptions import Revert
from eth.vm.spoof import SpoofTransaction
from eth_utils import ValidationError

from pipeline.embedded.evm.chain import GAS_LIMIT, Chain
from pipeline.embedded.evm.encoding import from_data, from_quantity, to_data
from pipeline.embedded.evm.errors import REVERTED, RpcError, rejected

#: Selector of ``Error(string)``, which carries a reason as text.
ERROR_SELECTOR = bytes.fromhex("08c379a0")


def call(chain: Chain, request: dict[str, Any], block: int | str) -> bytes:
    """What the call returns in the state after ``block``. Raises `RpcError`, with the revert data."""
    return bytes(_run(chain, request, block, _gas_of(request)).output)


def estimate_gas(chain: Chain, request: dict[str, Any], block: int | str) -> int:
    """A gas limit with which the call succeeds, a few percent above the least one at most.

    Raises `RpcError`, with the revert data.
    """
    limit = _gas_of(request)
    gas: int = _run(chain, request, block, limit).gas_used
    # Mostly that is enough. Refunds, and the 1/64 that EIP-150 holds back, come on top.
    while gas < limit:
        try:
            _run(chain, request, block, gas)
        except RpcError:
            gas += gas // 32 + 500
        else:
            return gas
    return limit


class _Result:
    """A run that succeeded: what it returned, and its gas with that of the transaction itself."""

    def __init__(self, computation: Any, intrinsic_gas: int) -> None:
        self.output = computation.output
        self.gas_used = intrinsic_gas + computation.get_gas_used()


def _run(chain: Chain, request: dict[str, Any], block: int | str, gas: int) -> _Result:
    sender = from_data(request.get("from")) or ZERO_ADDRESS
    with chain.vm(chain.header(block)).in_costless_state() as state:
        unsigned = chain.unsigned(
            nonce=state.get_nonce(sender),
            gas_price=0,
            gas=gas,
            to=from_data(request.get("to")),
            value=from_quantity(request.get("value")),
            data=from_data(request.get("input", request.get("data"))),
        )
        try:
            computation = state.apply_transaction(SpoofTransaction(unsigned, from_=sender))
        except ValidationError as exc:
            raise rejected(str(exc)) from exc
    if computation.is_error:
        raise _failure(computation.error)
    return _Result(computation, unsigned.intrinsic_gas)


def _gas_of(request: dict[str, Any]) -> int:
    return min(from_quantity(request.get("gas")) or GAS_LIMIT, GAS_LIMIT)


def _failure(error: Exception) -> RpcError:
    if not isinstance(error, Revert):
        return rejected(str(error) or type(error).__name__)
    data = bytes(error.args[0]) if error.args else b""
    reason = _reason(data)
    return RpcError(REVERTED, "execution reverted" + (f": {reason}" if reason else ""), to_data(data))


def _reason(data: bytes) -> str:
    """The text in the ABI encoding of ``Error(string)``; empty for anything else."""
    if not data.startswith(ERROR_SELECTOR):
        return ""
    length = int.from_bytes(data[36:68], "big")
    return data[68 : 68 + length].decode(errors="replace")

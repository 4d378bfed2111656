"""The JSON-RPC methods that a chain writer needs, each a function of the chain and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.embedded.evm import encoding, execution
from pipeline.embedded.evm.chain import Chain
from pipeline.embedded.evm.encoding import from_block_name, from_data, from_quantity, to_data, to_quantity
from pipeline.embedded.evm.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError

#: What ``eth_maxPriorityFeePerGas`` suggests: 1 gwei.
SUGGESTED_TIP_WEI = 10**9
#: As in geth: the longest history that ``eth_feeHistory`` gives.
HISTORY_MAX_BLOCKS = 1024

Params = Sequence[Any]
Method = Callable[[Chain, Params], Any]


def answer(chain: Chain, method: str, params: Params) -> Any:
    """The result of a method. Raises `RpcError`."""
    if method not in METHODS:
        raise RpcError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
    try:
        return METHODS[method](chain, params)
    except LookupError as exc:
        missing = isinstance(exc, IndexError)
        text = f"missing parameter of {method}" if missing else str(exc)
        raise RpcError(INVALID_PARAMS, text) from exc


def _block_at(params: Params, index: int) -> int | str:
    return from_block_name(params[index] if len(params) > index else None)


def _block_by_number(chain: Chain, params: Params) -> Any:
    try:
        header = chain.header(from_block_name(params[0]))
    except LookupError:
        return None
    return encoding.block_object(chain.block(header), full_transactions=bool(params[1:] and params[1]))


def _block_by_hash(chain: Chain, params: Params) -> Any:
    try:
        header = chain.header_by_hash(from_data(params[0]))
    except LookupError:
        return None
    return encoding.block_object(chain.block(header), full_transactions=bool(params[1:] and params[1]))


def _block_receipts(chain: Chain, params: Params) -> Any:
    block = chain.block(chain.header(from_block_name(params[0])))
    receipts = chain.receipts(block)
    return [encoding.receipt_object(block, receipts, index) for index in range(len(receipts))]


def _receipt(chain: Chain, params: Params) -> Any:
    transaction_hash = from_data(params[0])
    try:
        block, index = chain.locate(transaction_hash)
    except LookupError:
        return None
    return encoding.receipt_object(block, chain.receipts(block), index)


def _transaction(chain: Chain, params: Params) -> Any:
    transaction_hash = from_data(params[0])
    try:
        block, index = chain.locate(transaction_hash)
    except LookupError:
        pass
    else:
        return encoding.transaction_object(block.transactions[index], block, index)
    try:
        return encoding.transaction_object(chain.waiting(transaction_hash), None, None)
    except LookupError:
        return None


def _nonce(chain: Chain, params: Params) -> Any:
    address, block = from_data(params[0]), _block_at(params, 1)
    nonce = chain.pending_nonce(address) if block == "pending" else chain.state(block).get_nonce(address)
    return to_quantity(nonce)


def _storage(chain: Chain, params: Params) -> Any:
    state = chain.state(_block_at(params, 2))
    return to_data(state.get_storage(from_data(params[0]), from_quantity(params[1])).to_bytes(32, "big"))


def _fee_history(chain: Chain, params: Params) -> Any:
    """Base fees, fullness and tips of the last blocks; one base fee more, that of the next block."""
    wanted = params[0] if isinstance(params[0], int) else from_quantity(params[0])
    newest: int = chain.header(_block_at(params, 1)).block_number
    percentiles = params[2] if len(params) > 2 and params[2] else []
    first = max(0, newest - min(max(wanted, 1), HISTORY_MAX_BLOCKS) + 1)
    headers = [chain.header(number) for number in range(first, newest + 1)]
    base_fees = [header.base_fee_per_gas for header in headers]
    history: dict[str, Any] = {
        "oldestBlock": to_quantity(first),
        "baseFeePerGas": [to_quantity(fee) for fee in [*base_fees, chain.next_base_fee_wei(headers[-1])]],
        "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
    }
    if percentiles:
        history["reward"] = [_tips(chain, header, percentiles) for header in headers]
    return history


def _tips(chain: Chain, header: Any, percentiles: Sequence[float]) -> list[str]:
    """The tips in a block at these percentiles of its transactions; the suggestion if it has none."""
    tips = sorted(
        encoding.effective_gas_price_wei(transaction, header) - header.base_fee_per_gas
        for transaction in chain.block(header).transactions
    ) or [SUGGESTED_TIP_WEI]
    return [to_quantity(tips[min(int(len(tips) * point / 100), len(tips) - 1)]) for point in percentiles]


def _logs(chain: Chain, params: Params) -> Any:
    wanted = params[0]
    addresses = _as_list(wanted.get("address"))
    topics = [_as_list(topic) for topic in wanted.get("topics") or []]
    found = [log for header in _log_headers(chain, wanted) for log in _logs_of(chain, header)]
    return [log for log in found if _matches(log, addresses, topics)]


def _log_headers(chain: Chain, wanted: dict[str, Any]) -> list[Any]:
    """The headers of the wanted blocks, less those whose bloom filter says that they have no log."""
    if "blockHash" in wanted:
        headers = [chain.header_by_hash(from_data(wanted["blockHash"]))]
    else:
        first = chain.header(from_block_name(wanted.get("fromBlock"))).block_number
        last = chain.header(from_block_name(wanted.get("toBlock"))).block_number
        headers = [chain.header(number) for number in range(first, last + 1)]
    return [header for header in headers if header.bloom]


def _logs_of(chain: Chain, header: Any) -> list[dict[str, Any]]:
    block = chain.block(header)
    receipts = chain.receipts(block)
    return [
        log
        for index in range(len(receipts))
        for log in encoding.receipt_object(block, receipts, index)["logs"]
    ]


def _matches(log: dict[str, Any], addresses: list[str], topics: list[list[str]]) -> bool:
    """An empty list of addresses, or of topics at a position, takes everything."""
    if addresses and log["address"].lower() not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    pairs = zip(log["topics"], topics, strict=False)
    return all(not allowed or found in allowed for found, allowed in pairs)


def _as_list(value: Any) -> list[str]:
    """One value, a list of them, or none, in lower case. Raises `RpcError`."""
    values = [value] if isinstance(value, str) else value or []
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise RpcError(INVALID_PARAMS, f"{value!r} is neither hex data nor a list of it")
    return [item.lower() for item in values]


METHODS: dict[str, Method] = {
    "web3_clientVersion": lambda chain, params: "credential-pipeline/py-evm",
    "net_version": lambda chain, params: str(chain.chain_id),
    "net_listening": lambda chain, params: True,
    "eth_syncing": lambda chain, params: False,
    "eth_accounts": lambda chain, params: [],
    "eth_chainId": lambda chain, params: to_quantity(chain.chain_id),
    "eth_blockNumber": lambda chain, params: to_quantity(chain.head.block_number),
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getBlockReceipts": _block_receipts,
    "eth_getTransactionByHash": _transaction,
    "eth_getTransactionReceipt": _receipt,
    "eth_getTransactionCount": _nonce,
    "eth_getBalance": lambda chain, params: to_quantity(
        chain.state(_block_at(params, 1)).get_balance(from_data(params[0]))
    ),
    "eth_getCode": lambda chain, params: to_data(
        chain.state(_block_at(params, 1)).get_code(from_data(params[0]))
    ),
    "eth_getStorageAt": _storage,
    "eth_gasPrice": lambda chain, params: to_quantity(
        chain.next_base_fee_wei(chain.head) + SUGGESTED_TIP_WEI
    ),
    "eth_maxPriorityFeePerGas": lambda chain, params: to_quantity(SUGGESTED_TIP_WEI),
    "eth_feeHistory": _fee_history,
    "eth_sendRawTransaction": lambda chain, params: to_data(chain.send(from_data(params[0]))),
    "eth_call": lambda chain, params: to_data(execution.call(chain, params[0], _block_at(params, 1))),
    "eth_estimateGas": lambda chain, params: to_quantity(
        execution.estimate_gas(chain, params[0], _block_at(params, 1))
    ),
    "eth_getLogs": _logs,
}

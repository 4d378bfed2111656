"""JSON-RPC's view of blocks, transactions, receipts and logs (the execution-apis specification)."""

from __future__ import annotations

from typing import Any

import rlp
from eth._utils.address import generate_contract_address
from eth_utils import to_checksum_address

from pipeline.embedded.evm.errors import INVALID_PARAMS, RpcError

LEGACY = 0
DYNAMIC_FEE = 2


def to_quantity(number: int) -> str:
    """A number, hex without leading zeros."""
    return hex(number)


def to_data(octets: bytes) -> str:
    """Bytes, hex."""
    return "0x" + bytes(octets).hex()


def from_quantity(text: Any) -> int:
    """A number from hex; 0 when left out. Raises `RpcError`."""
    if text is None:
        return 0
    try:
        return int(text, 16)
    except (TypeError, ValueError) as exc:
        raise RpcError(INVALID_PARAMS, f"{text!r} is not a hex number") from exc


def from_data(text: Any) -> bytes:
    """Bytes from hex; none when left out. Raises `RpcError`."""
    if text is None:
        return b""
    try:
        if not text.startswith("0x"):
            raise ValueError("no 0x")
        return bytes.fromhex(text[2:])
    except (AttributeError, ValueError) as exc:
        raise RpcError(INVALID_PARAMS, f"{text!r} is not hex data") from exc


def from_block_name(text: Any) -> int | str:
    """A block number, or ``latest`` and the like; ``latest`` when left out."""
    if isinstance(text, str) and text.startswith("0x"):
        return from_quantity(text)
    if text is None or isinstance(text, str):
        return text or "latest"
    raise RpcError(INVALID_PARAMS, f"{text!r} is neither a block number nor a name for one")


def block_object(block: Any, *, full_transactions: bool) -> dict[str, Any]:
    """What ``eth_getBlockByNumber`` returns."""
    header = block.header
    quantities = {
        "number": header.block_number,
        "timestamp": header.timestamp,
        "gasLimit": header.gas_limit,
        "gasUsed": header.gas_used,
        "baseFeePerGas": header.base_fee_per_gas,
        "difficulty": header.difficulty,
        "totalDifficulty": 0,
        "blobGasUsed": header.blob_gas_used,
        "excessBlobGas": header.excess_blob_gas,
        "size": len(rlp.encode(block)),
    }
    octets = {
        "hash": header.hash,
        "parentHash": header.parent_hash,
        "nonce": header.nonce,
        "sha3Uncles": header.uncles_hash,
        "logsBloom": header.bloom.to_bytes(256, "big"),
        "transactionsRoot": header.transaction_root,
        "stateRoot": header.state_root,
        "receiptsRoot": header.receipt_root,
        "mixHash": header.mix_hash,
        "extraData": header.extra_data,
        "withdrawalsRoot": header.withdrawals_root,
        "parentBeaconBlockRoot": header.parent_beacon_block_root,
        "requestsHash": header.requests_hash,
    }
    transactions = [
        transaction_object(transaction, block, index) if full_transactions else to_data(transaction.hash)
        for index, transaction in enumerate(block.transactions)
    ]
    lists = {"transactions": transactions, "uncles": [], "withdrawals": []}
    miner = {"miner": to_checksum_address(header.coinbase)}
    return _hexed(quantities, octets) | miner | lists


def transaction_object(transaction: Any, block: Any | None, index: int | None) -> dict[str, Any]:
    """What ``eth_getTransactionByHash`` returns; ``block`` is None while it waits in the pool."""
    kind = getattr(transaction, "type_id", LEGACY)
    quantities = {
        "type": kind,
        "nonce": transaction.nonce,
        "value": transaction.value,
        "gas": transaction.gas,
        "gasPrice": effective_gas_price_wei(transaction, block.header if block else None),
        "r": transaction.r,
        "s": transaction.s,
        "v": transaction.v if kind == LEGACY else transaction.y_parity,
    }
    if transaction.chain_id is not None:
        quantities["chainId"] = transaction.chain_id
    if kind >= DYNAMIC_FEE:
        quantities["maxFeePerGas"] = transaction.max_fee_per_gas
        quantities["maxPriorityFeePerGas"] = transaction.max_priority_fee_per_gas
    if kind != LEGACY:
        quantities["yParity"] = transaction.y_parity
    parts = _hexed(quantities, {"hash": transaction.hash, "input": transaction.data})
    if kind != LEGACY:
        parts["accessList"] = [_access(entry) for entry in transaction.access_list]
    return parts | _parties(transaction) | _place(block, index)


def receipt_object(block: Any, receipts: Any, index: int) -> dict[str, Any]:
    """What ``eth_getTransactionReceipt`` returns for the transaction at ``index``."""
    transaction, receipt = block.transactions[index], receipts[index]
    logs_before = sum(len(earlier.logs) for earlier in receipts[:index])
    gas_before = receipts[index - 1].gas_used if index else 0
    created = generate_contract_address(transaction.sender, transaction.nonce) if not transaction.to else None
    quantities = {
        "type": getattr(transaction, "type_id", LEGACY),
        # Since Byzantium the field holds the status in place of a state root.
        "status": int.from_bytes(receipt.state_root, "big"),
        "cumulativeGasUsed": receipt.gas_used,
        "gasUsed": receipt.gas_used - gas_before,
        "effectiveGasPrice": effective_gas_price_wei(transaction, block.header),
    }
    octets = {"transactionHash": transaction.hash, "logsBloom": receipt.bloom.to_bytes(256, "big")}
    logs = [log_object(block, index, log, logs_before + at) for at, log in enumerate(receipt.logs)]
    contract = to_checksum_address(created) if created else None
    more = {"contractAddress": contract, "logs": logs}
    return _hexed(quantities, octets) | _parties(transaction) | _place(block, index) | more


def log_object(block: Any, transaction_index: int, log: Any, log_index: int) -> dict[str, Any]:
    """One log as in receipts and ``eth_getLogs``."""
    return {
        "address": to_checksum_address(log.address),
        "topics": [to_data(topic.to_bytes(32, "big")) for topic in log.topics],
        "data": to_data(log.data),
        "logIndex": to_quantity(log_index),
        "transactionHash": to_data(block.transactions[transaction_index].hash),
        "removed": False,
    } | _place(block, transaction_index)


def effective_gas_price_wei(transaction: Any, header: Any | None) -> int:
    """What a unit of gas costs the sender (EIP-1559); the cap while it is not in a block."""
    cap: int = transaction.max_fee_per_gas
    if header is None:
        return cap
    return min(cap, int(transaction.max_priority_fee_per_gas) + int(header.base_fee_per_gas))


def _hexed(quantities: dict[str, int], octets: dict[str, bytes]) -> dict[str, Any]:
    numbers = {key: to_quantity(number) for key, number in quantities.items()}
    return numbers | {key: to_data(value) for key, value in octets.items()}


def _parties(transaction: Any) -> dict[str, Any]:
    to = to_checksum_address(transaction.to) if transaction.to else None
    return {"from": to_checksum_address(transaction.sender), "to": to}


def _place(block: Any | None, index: int | None) -> dict[str, Any]:
    if block is None or index is None:
        return {"blockHash": None, "blockNumber": None, "transactionIndex": None}
    return {
        "blockHash": to_data(block.header.hash),
        "blockNumber": to_quantity(block.header.block_number),
        "transactionIndex": to_quantity(index),
    }


def _access(entry: Any) -> dict[str, Any]:
    address, slots = entry
    keys = [to_data(slot.to_bytes(32, "big")) for slot in slots]
    return {"address": to_checksum_address(address), "storageKeys": keys}

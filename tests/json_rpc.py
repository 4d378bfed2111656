"""Requests to a node by hand, with transactions that no client has made."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from eth_account import Account as Key

from pipeline.embedded.jsonrpc import JsonRpcError, call
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy

GWEI = 10**9
FEES = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": 10 * GWEI}


def signed(anvil: Anvil, nonce: int = 0, **fields: Any) -> tuple[str, str]:
    """A transaction of anvil's first account, in hex, and its hash."""
    usual = {"chainId": anvil.chain_id, "nonce": nonce, "to": anvil.address, "value": 0, "gas": 100_000}
    fees = {} if "gasPrice" in fields else {"type": 2} | FEES
    transaction = {name: value for name, value in (usual | fees | fields).items() if value is not None}
    made = Key.from_key(anvil.private_key).sign_transaction(transaction)
    return "0x" + made.raw_transaction.hex(), "0x" + made.hash.hex()


def request(number: int, method: str, *params: Any) -> dict[str, Any]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def post(proxy: FaultProxy, body: Any) -> tuple[HTTPResponse, bytes]:
    """The HTTP answer to one request or a batch."""
    connection = HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request("POST", "/", json.dumps(body))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def pooled(anvil: Anvil) -> int:
    """How many transactions wait in the node."""
    return int(anvil.rpc("txpool_status")["pending"], 16)


def refusal(proxy: FaultProxy, raw: str) -> tuple[int, str] | None:
    """Code and words with which a transaction is refused; None: it is taken."""
    try:
        call(proxy.url, SEND, raw)
    except JsonRpcError as error:
        return error.code, error.message
    return None

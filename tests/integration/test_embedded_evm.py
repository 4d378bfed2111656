"""Promise: the embedded EVM does what a chain writer needs, and answers bad requests with errors."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils import function_signature_to_4byte_selector

from pipeline.embedded import jsonrpc
from pipeline.embedded.evm import EvmServer

SOMEBODY = "0x" + "11" * 20
GWEI = 10**9
#: What Solidity's ``revert("no")`` returns.
REVERT_DATA = (
    function_signature_to_4byte_selector("Error(string)")
    + (32).to_bytes(32, "big")
    + (2).to_bytes(32, "big")
    + b"no".ljust(32, b"\0")
)


def call(server: EvmServer, method: str, *params: Any) -> Any:
    """The result of a JSON-RPC call."""
    return jsonrpc.call(server.rpc_url, method, *params)


def number(text: str) -> int:
    """A quantity."""
    return int(text, 16)


@pytest.fixture
def evm(new_directory: Callable[[str], Path]) -> Any:
    """A fresh chain."""
    with EvmServer(new_directory("evm")) as server:
        yield server


class Wallet:
    """Signs with the funded key, one nonce after another."""

    def __init__(self, server: EvmServer) -> None:
        self.server = server
        self.account = Account.from_key(server.private_key)
        self.address = self.account.address
        self.nonce = number(call(server, "eth_getTransactionCount", self.address, "pending"))

    def sign(self, **changes: Any) -> str:
        """A signed transfer, or what the changes make of it."""
        fields = {
            "type": 2,
            "chainId": self.server.chain_id,
            "nonce": self.nonce,
            "to": SOMEBODY,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 5 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        } | changes
        given = {key: value for key, value in fields.items() if value is not None}
        return str(self.account.sign_transaction(given).raw_transaction.to_0x_hex())

    def send(self, **changes: Any) -> str:
        """Send it; the next one has the next nonce. Returns the hash."""
        sent = call(self.server, "eth_sendRawTransaction", self.sign(**changes))
        self.nonce += 1
        return str(sent)

    def receipt(self, transaction_hash: str) -> dict[str, Any]:
        """The receipt, which is there within three seconds."""
        deadline = time.monotonic() + 3
        while (found := call(self.server, "eth_getTransactionReceipt", transaction_hash)) is None:
            assert time.monotonic() < deadline, "not mined"
            time.sleep(0.02)
        return dict(found)

    def deploy(self, runtime: bytes) -> str:
        """Deploy a contract with this runtime code. Returns its address."""
        # CODECOPY and RETURN of what follows these 12 bytes.
        prefix = bytes.fromhex(f"61{len(runtime):04x}80600c6000396000f3")
        code = "0x" + (prefix.ljust(12, b"\0") + runtime).hex()
        return str(self.receipt(self.send(to=None, value=0, data=code, gas=1_000_000))["contractAddress"])


@pytest.fixture
def wallet(evm_server: EvmServer) -> Wallet:
    """A wallet on the chain that the tests share."""
    return Wallet(evm_server)


def test_mines_an_empty_block_every_second(evm: EvmServer) -> None:
    """So that confirmations above 1 are reached without traffic; the clock is not run ahead of."""
    start, begun = number(call(evm, "eth_blockNumber")), time.monotonic()
    while number(call(evm, "eth_blockNumber")) < start + 3:
        assert time.monotonic() < begun + 6
        time.sleep(0.05)
    assert time.monotonic() - begun > 0.9, "the first may be due at once, the second soon after it"
    latest = call(evm, "eth_getBlockByNumber", "latest", False)
    assert number(latest["timestamp"]) <= time.time() + 1
    parent = call(evm, "eth_getBlockByHash", latest["parentHash"], False)
    assert number(parent["number"]) == number(latest["number"]) - 1


def test_mines_a_transaction_at_once(wallet: Wallet) -> None:
    """The receipt has what a settling sweep reads, and agrees with block and transaction."""
    sent = wallet.send()
    receipt = wallet.receipt(sent)
    assert number(receipt["status"]) == 1
    assert number(receipt["gasUsed"]) == 21_000
    block = call(wallet.server, "eth_getBlockByNumber", receipt["blockNumber"], False)
    assert block["hash"] == receipt["blockHash"]
    assert sent in block["transactions"]
    mined = call(wallet.server, "eth_getTransactionByHash", sent)
    assert mined["blockHash"] == receipt["blockHash"]
    assert mined["from"] == wallet.address
    assert call(wallet.server, "eth_getBlockReceipts", receipt["blockNumber"])[-1]["transactionHash"] == sent


def test_a_burst_goes_through(wallet: Wallet) -> None:
    """Fifty transactions without waiting; the block times stay with the wall clock."""
    hashes = [wallet.send() for _ in range(50)]
    receipts = [wallet.receipt(sent) for sent in hashes]
    assert {number(receipt["status"]) for receipt in receipts} == {1}
    latest = call(wallet.server, "eth_getBlockByNumber", "latest", False)
    assert number(latest["timestamp"]) <= time.time() + 1


def test_a_nonce_gap_waits_until_it_is_filled(wallet: Wallet) -> None:
    """As on a real node: queued, not refused, and not counted as pending."""
    first = wallet.nonce
    later = call(wallet.server, "eth_sendRawTransaction", wallet.sign(nonce=first + 1))
    assert number(call(wallet.server, "eth_getTransactionCount", wallet.address, "pending")) == first
    assert call(wallet.server, "eth_getTransactionReceipt", later) is None
    assert call(wallet.server, "eth_getTransactionByHash", later)["blockHash"] is None
    wallet.send(nonce=first)
    wallet.receipt(later)
    wallet.nonce = first + 2
    assert number(call(wallet.server, "eth_getTransactionCount", wallet.address, "latest")) == first + 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonce": 0, "value": 12345}, "nonce too low"),
        ({"value": 10**30}, "insufficient funds"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 10**9}, "exceeds block gas limit"),
        ({"chainId": 5}, "invalid chain id"),
        ({"maxPriorityFeePerGas": 10**12}, "max priority fee per gas higher"),
    ],
)
def test_refuses_in_the_words_of_geth(wallet: Wallet, changes: dict[str, int], message: str) -> None:
    """What a chain writer reads its next step from."""
    wallet.receipt(wallet.send())
    with pytest.raises(jsonrpc.JsonRpcError, match=message):
        call(wallet.server, "eth_sendRawTransaction", wallet.sign(**changes))


def test_knows_a_transaction_again(wallet: Wallet) -> None:
    """The same bytes twice are one transaction; a rival at the same nonce needs 10 % more."""
    first = wallet.nonce
    waiting = wallet.sign(nonce=first + 1)
    call(wallet.server, "eth_sendRawTransaction", waiting)
    for raw, message in (
        (waiting, "already known"),
        (wallet.sign(nonce=first + 1, value=2), "replacement transaction underpriced"),
    ):
        with pytest.raises(jsonrpc.JsonRpcError, match=message):
            call(wallet.server, "eth_sendRawTransaction", raw)
    dearer = {"maxFeePerGas": 6 * GWEI, "maxPriorityFeePerGas": 2 * GWEI}
    replacement = call(wallet.server, "eth_sendRawTransaction", wallet.sign(nonce=first + 1, **dearer))
    wallet.send(nonce=first)
    wallet.nonce = first + 2
    wallet.receipt(replacement)
    with pytest.raises(jsonrpc.JsonRpcError, match="nonce too low"):
        call(wallet.server, "eth_sendRawTransaction", waiting)


def test_a_fee_cap_below_the_base_fee_waits(evm: EvmServer) -> None:
    """It is in the pool and can be replaced, as on geth."""
    wallet = Wallet(evm)
    stuck = call(evm, "eth_sendRawTransaction", wallet.sign(maxFeePerGas=1, maxPriorityFeePerGas=1))
    assert call(evm, "eth_getTransactionReceipt", stuck) is None
    wallet.receipt(wallet.send())
    assert call(evm, "eth_getTransactionByHash", stuck) is None


def test_revert_data_comes_through(wallet: Wallet) -> None:
    """In calls and estimates: the reason as text, and the contract's data as it is."""
    # CODECOPY what follows these 12 bytes, and REVERT with it.
    runtime = bytes.fromhex(f"61{len(REVERT_DATA):04x}80600c6000396000fd") + REVERT_DATA
    contract = wallet.deploy(runtime)
    assert call(wallet.server, "eth_getCode", contract, "latest") == "0x" + runtime.hex()
    for method in ("eth_call", "eth_estimateGas"):
        with pytest.raises(jsonrpc.JsonRpcError, match="execution reverted: no") as caught:
            call(wallet.server, method, {"from": wallet.address, "to": contract, "data": "0x"}, "latest")
        assert caught.value.code == 3
        assert caught.value.data == "0x" + REVERT_DATA.hex()


def test_an_estimate_is_enough_and_not_much_more(wallet: Wallet) -> None:
    """The estimate of a transfer is exact; that of a deployment suffices for it."""
    transfer = {"from": wallet.address, "to": SOMEBODY, "value": "0x1"}
    assert number(call(wallet.server, "eth_estimateGas", transfer)) == 21_000
    code = "0x6001600055" + "00" * 200
    gas = number(call(wallet.server, "eth_estimateGas", {"from": wallet.address, "data": code}))
    receipt = wallet.receipt(wallet.send(to=None, value=0, data=code, gas=gas))
    assert number(receipt["status"]) == 1
    assert number(receipt["gasUsed"]) > gas * 0.9


def test_logs_are_found_by_address_and_topic(wallet: Wallet) -> None:
    """LOG1 with the call's first word as topic."""
    contract = wallet.deploy(bytes.fromhex("60003560006000a1"))
    topics = ["0x" + digit * 64 for digit in "12"]
    for topic in topics:
        wallet.receipt(wallet.send(to=contract, value=0, data=topic, gas=100_000))

    def logs(**wanted: Any) -> list[str]:
        everywhere = {"fromBlock": "earliest", "toBlock": "latest"}
        found = call(wallet.server, "eth_getLogs", everywhere | {"address": contract} | wanted)
        return [log["topics"][0] for log in found]

    assert logs() == topics
    assert logs(topics=[topics[1]]) == topics[1:]
    assert logs(topics=[None]) == topics
    assert logs(topics=[topics]) == topics
    assert logs(address=SOMEBODY) == []


def test_fee_history_is_that_of_the_blocks(wallet: Wallet) -> None:
    """One base fee more than blocks, tips for each percentile, and a gas price that gets mined."""
    history = call(wallet.server, "eth_feeHistory", "0x2", "latest", [25, 50])
    oldest = number(history["oldestBlock"])
    block = call(wallet.server, "eth_getBlockByNumber", hex(oldest), False)
    assert history["baseFeePerGas"][0] == block["baseFeePerGas"]
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
    assert [len(tips) for tips in history["reward"]] == [2] * len(history["gasUsedRatio"])
    price = number(call(wallet.server, "eth_gasPrice"))
    tip = number(call(wallet.server, "eth_maxPriorityFeePerGas"))
    wallet.receipt(wallet.send(maxFeePerGas=price, maxPriorityFeePerGas=min(tip, price)))


@pytest.mark.parametrize("name", ["latest", "finalized", "safe", "pending", "earliest"])
def test_blocks_have_names(evm_server: EvmServer, name: str) -> None:
    """Nothing is undone on this chain, so the newest block is final."""
    assert call(evm_server, "eth_getBlockByNumber", name, True)["hash"]


def test_what_is_not_there_is_null(evm_server: EvmServer) -> None:
    """As every node answers it."""
    nothing = "0x" + "ab" * 32
    assert call(evm_server, "eth_getBlockByNumber", "0xffffff", False) is None
    assert call(evm_server, "eth_getBlockByHash", nothing, False) is None
    assert call(evm_server, "eth_getTransactionReceipt", nothing) is None
    assert call(evm_server, "eth_getTransactionByHash", nothing) is None
    assert call(evm_server, "eth_getCode", SOMEBODY, "latest") == "0x"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[1]", -32600),
        (b"{}", -32600),
        (b'{"method": "eth_foo"}', -32601),
        (b'{"method": "eth_getBalance"}', -32602),
        (b'{"method": "eth_getBalance", "params": {}}', None),
        (b'{"method": "eth_getBalance", "params": ["0xzz", "latest"]}', -32602),
        (b'{"method": "eth_getBalance", "params": [7, "latest"]}', -32602),
        (b'{"method": "eth_getBalance", "params": ["0x11", "latest"]}', None),
        (b'{"method": "eth_call", "params": ["0x11", "latest"]}', None),
        (b'{"method": "eth_call", "params": [{}, "0xffffff"]}', -32602),
        (b'{"method": "eth_feeHistory", "params": [true, 7, "x"]}', None),
        (b'{"method": "eth_getLogs", "params": [{"address": 7}]}', -32602),
        (b'{"method": "eth_sendRawTransaction", "params": ["0x02ff"]}', -32000),
        (b'{"method": "eth_sendRawTransaction", "params": ["0x"]}', -32000),
        (b'{"method": "eth_sendRawTransaction", "params": [null]}', -32000),
    ],
)
def test_bad_requests_are_answered_with_errors(evm_server: EvmServer, body: bytes, code: int | None) -> None:
    """A JSON-RPC error with a message, on a connection that stays open; the node lives on."""
    connection = http.client.HTTPConnection("127.0.0.1", evm_server.port, timeout=10)
    for _ in range(2):
        connection.request("POST", "/", body)
        answer = json.loads(connection.getresponse().read())
        error = (answer[0] if isinstance(answer, list) else answer)["error"]
        assert error["message"]
        assert code is None or error["code"] == code
    connection.close()
    assert evm_server.poll() is None


def test_a_batch_is_answered_in_its_order(evm_server: EvmServer) -> None:
    """One POST, one answer for each request, errors among them."""
    methods = ["eth_chainId", "eth_nothing", "eth_blockNumber"]
    batch = [{"jsonrpc": "2.0", "id": index, "method": method} for index, method in enumerate(methods)]
    connection = http.client.HTTPConnection("127.0.0.1", evm_server.port, timeout=10)
    connection.request("POST", "/", json.dumps(batch))
    answers = json.loads(connection.getresponse().read())
    connection.close()
    assert [answer["id"] for answer in answers] == [0, 1, 2]
    assert number(answers[0]["result"]) == evm_server.chain_id
    assert "error" in answers[1]


def test_the_chain_survives_a_kill(evm: EvmServer) -> None:
    """Blocks, receipts and balances are there after SIGKILL, and it goes on from them."""
    wallet = Wallet(evm)
    receipt = wallet.receipt(wallet.send(value=77))
    evm.kill()
    evm.start()
    assert wallet.receipt(receipt["transactionHash"]) == receipt
    assert number(call(evm, "eth_getBalance", SOMEBODY, "latest")) == 77
    wallet.receipt(wallet.send())

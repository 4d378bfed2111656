"""Promise: the fault proxy does to the way between node and client what its methods say, as often as they
say, and is as strict as geth where it is told to be: what tests show with it is true."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any

import pytest
from eth_account import Account as Key

from pipeline.embedded.jsonrpc import JsonRpcError, call
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import ANY, SEND, FaultProxy
from tests.waiting import until

GWEI = 10**9
LOG_0 = "0x60006000a0"  # PUSH1 0 PUSH1 0 LOG0: an event without topics, as creation code
FEES = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": 10 * GWEI}


@pytest.fixture
def anvil(start_anvil: Callable[..., Anvil]) -> Anvil:
    """One that mines only when it is told to."""
    return start_anvil(automine=False)


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before it."""
    return start_fault_proxy(anvil.rpc_url)


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


# --- the way -------------------------------------------------------------------------------------


def test_without_faults_nothing_changes(anvil: Anvil, proxy: FaultProxy) -> None:
    """Results, errors and data are the node's; requests are counted by method."""
    assert call(proxy.url, "eth_chainId") == "0x7a69"
    with pytest.raises(JsonRpcError, match="Method not found") as caught:
        call(proxy.url, "eth_nonsense")
    assert caught.value.code == -32601
    _, body = post(proxy, [request(7, "eth_chainId"), request(5, "eth_no"), request(6, "eth_chainId")])
    assert [(answer["id"], answer.get("result")) for answer in json.loads(body)] == [
        (7, "0x7a69"),
        (5, None),
        (6, "0x7a69"),
    ]
    assert proxy.counts == {"eth_chainId": 3, "eth_nonsense": 1, "eth_no": 1}
    assert proxy.http_requests == 3


def test_cut_reply(anvil: Anvil, proxy: FaultProxy) -> None:
    """The node has it, the client hears nothing; as often as told, then all is well."""
    fault = proxy.cut_reply(SEND, times=2)
    for nonce in range(2):
        with pytest.raises(RemoteDisconnected):
            post(proxy, request(1, SEND, signed(anvil, nonce)[0]))
        assert pooled(anvil) == nonce + 1
    raw, hash_ = signed(anvil, 2)
    assert call(proxy.url, SEND, raw) == hash_
    assert fault.used == 2


@pytest.mark.parametrize("broken", [False, True])
def test_truncated_reply(anvil: Anvil, proxy: FaultProxy, broken: bool) -> None:
    """The node has it, the client hears the first half; announced as the whole, or broken off."""
    proxy.truncate_reply(SEND, broken=broken)
    raw, hash_ = signed(anvil)
    if broken:
        with pytest.raises(IncompleteRead) as caught:
            post(proxy, request(1, SEND, raw))
        half = caught.value.partial
    else:
        _, half = post(proxy, request(1, SEND, raw))
    assert half.startswith(b'{"')
    assert hash_[-20:].encode() not in half
    assert pooled(anvil) == 1


@pytest.mark.parametrize("own_event", [False, True])
def test_held_reply(anvil: Anvil, proxy: FaultProxy, own_event: bool) -> None:
    """The node has it, the client waits until the test says so; others are answered meanwhile."""
    event = threading.Event() if own_event else None
    fault = proxy.hold_reply(SEND, until=event)
    raw, hash_ = signed(anvil)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(call, proxy.url, SEND, raw)
        assert fault.happened.wait(10)
        assert pooled(anvil) == 1
        assert call(proxy.url, "eth_chainId") == "0x7a69"
        assert not held.done()
        if event:
            event.set()
        else:
            fault.end()
        assert held.result(10) == hash_


def test_delayed_reply(proxy: FaultProxy) -> None:
    """For so long."""
    proxy.delay_reply("eth_chainId", 0.3)
    started = time.monotonic()
    assert call(proxy.url, "eth_chainId") == "0x7a69"
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("status", "wish"), [(429, 7), (502, None), (503, None), (503, 1)])
def test_http_status(anvil: Anvil, proxy: FaultProxy, status: int, wish: int | None) -> None:
    """The node is not asked."""
    proxy.answer_status(SEND, status, retry_after=wish)
    response, body = post(proxy, request(1, SEND, signed(anvil)[0]))
    assert response.status == status
    assert response.headers["Retry-After"] == (str(wish) if wish else None)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)
    assert pooled(anvil) == 0


def test_refused(anvil: Anvil, proxy: FaultProxy) -> None:
    """Closed without asking the node."""
    proxy.refuse(SEND)
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, signed(anvil)[0])
    assert pooled(anvil) == 0


def test_down(anvil: Anvil, proxy: FaultProxy) -> None:
    """No method, no new connection and none that was open before; until it is up again."""
    kept = HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=10)
    kept.request("POST", "/", json.dumps(request(1, "eth_chainId")))
    kept.getresponse().read()
    proxy.down = True
    kept.request("POST", "/", json.dumps(request(1, SEND, signed(anvil)[0])))
    with pytest.raises(ConnectionError):
        kept.getresponse()
    kept.close()
    with pytest.raises(ConnectionError):
        call(proxy.url, "eth_chainId")
    assert pooled(anvil) == 0
    assert proxy.counts == {"eth_chainId": 1}
    proxy.down = False
    assert call(proxy.url, "eth_chainId") == "0x7a69"


def test_down_while_a_reply_is_held(anvil: Anvil, proxy: FaultProxy) -> None:
    """It never comes."""
    fault = proxy.hold_reply(SEND)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(call, proxy.url, SEND, signed(anvil)[0])
        assert fault.happened.wait(10)
        proxy.down = True
        fault.end()
        with pytest.raises(ConnectionError):
            held.result(10)


def test_a_node_that_is_not_there(anvil: Anvil, proxy: FaultProxy) -> None:
    """Looks like a proxy that is down."""
    anvil.stop()
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, signed(anvil)[0])
    assert [sent.answer for sent in proxy.sent] == [None]
    anvil.start()
    assert call(proxy.url, "eth_chainId") == "0x7a69"


# --- other answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("forward", [False, True])
def test_json_rpc_error(anvil: Anvil, proxy: FaultProxy, forward: bool) -> None:
    """In place of the node's answer, and of asking it unless told to."""
    proxy.answer_error(SEND, "already known", code=-32010, data="0x1", forward=forward)
    with pytest.raises(JsonRpcError) as caught:
        call(proxy.url, SEND, signed(anvil)[0])
    assert (caught.value.message, caught.value.code, caught.value.data) == ("already known", -32010, "0x1")
    assert pooled(anvil) == forward
    assert proxy.sent[0].answer == ("accepted" if forward else None)


@pytest.mark.parametrize("forward", [False, True])
def test_result(anvil: Anvil, proxy: FaultProxy, forward: bool) -> None:
    """A result that is not the node's, which is asked only if told to."""
    proxy.answer_result("evm_mine", "?", forward=forward)
    assert call(proxy.url, "evm_mine") == "?"
    assert anvil.block_number == forward
    proxy.answer_result("eth_chainId", None)
    assert call(proxy.url, "eth_chainId") is None
    assert call(proxy.url, "eth_chainId") == "0x7a69"


def test_a_method_that_is_not_served(proxy: FaultProxy) -> None:
    """As geth says it, until the fault is ended."""
    fault = proxy.do_not_serve("eth_getBlockReceipts")
    for _ in range(3):
        with pytest.raises(JsonRpcError, match="eth_getBlockReceipts does not exist") as caught:
            call(proxy.url, "eth_getBlockReceipts", "latest")
        assert caught.value.code == -32601
    fault.end()
    assert call(proxy.url, "eth_getBlockReceipts", "latest") == []


def test_which_requests_a_fault_meets(proxy: FaultProxy) -> None:
    """After those it skips, and only those with such parameters; of all methods, or one."""
    fault = proxy.answer_result(
        "eth_getBlockByNumber", "?", 2, skip=1, when=lambda params: params[0] == "finalized"
    )
    assert call(proxy.url, "eth_getBlockReceipts", "finalized") == []
    assert call(proxy.url, "eth_getBlockByNumber", "latest", False) != "?"
    found = [call(proxy.url, "eth_getBlockByNumber", "finalized", False) == "?" for _ in range(4)]
    assert found == [False, True, True, False]
    assert fault.used == 2
    proxy.answer_result(ANY, "!", None)
    assert call(proxy.url, "eth_chainId") == "!"
    proxy.end_faults()
    assert call(proxy.url, "eth_chainId") == "0x7a69"


# --- batches -------------------------------------------------------------------------------------


def test_an_answer_in_a_batch(anvil: Anvil, proxy: FaultProxy) -> None:
    """Meets the entries of its method, one by one; the others have the node's answers."""
    proxy.answer_error(SEND, "nonce too low", 1)
    batch = [
        request(0, "eth_chainId"),
        request(1, SEND, signed(anvil, 0)[0]),
        request(2, SEND, signed(anvil, 0)[0]),
        request(3, "eth_blockNumber"),
    ]
    answers = json.loads(post(proxy, batch)[1])
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]
    assert [answer.get("result") for answer in answers] == ["0x7a69", None, signed(anvil)[1], "0x0"]
    assert answers[1]["error"]["message"] == "nonce too low"


def test_http_faults_meet_a_whole_batch(anvil: Anvil, proxy: FaultProxy) -> None:
    """Once, however many of its entries are meant."""
    batch = [request(number, SEND, signed(anvil, number)[0]) for number in range(3)]
    refused, cut = proxy.answer_status(SEND, 502, times=2), proxy.cut_reply(SEND, times=2, skip=1)
    assert [post(proxy, batch)[0].status for _ in range(2)] == [502, 502]
    assert pooled(anvil) == 0
    assert len(json.loads(post(proxy, batch)[1])) == 3
    with pytest.raises(ConnectionError):
        post(proxy, batch)
    assert (refused.used, cut.used) == (2, 1)
    assert pooled(anvil) == 3


# --- two nodes -----------------------------------------------------------------------------------


def test_two_nodes_by_turns(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Request by request, or the one that is chosen."""
    proxy = start_fault_proxy(start_anvil(chain_id=1).rpc_url, start_anvil(chain_id=2).rpc_url)
    assert [call(proxy.url, "eth_chainId") for _ in range(2)] == ["0x1", "0x1"]
    proxy.current = 1
    assert [call(proxy.url, "eth_chainId") for _ in range(2)] == ["0x2", "0x2"]
    proxy.alternate = True
    assert [call(proxy.url, "eth_chainId") for _ in range(4)] == ["0x2", "0x1", "0x2", "0x1"]


def views(proxy: FaultProxy, anvil: Anvil, hash_: str, block_hash: str) -> dict[str, Any]:
    """What the proxy tells of block 2, in which there is one transaction, and of the state then."""
    asked = {
        "head": ("eth_blockNumber",),
        "latest": ("eth_getBlockByNumber", "latest", False),
        "block": ("eth_getBlockByNumber", "0x2", False),
        "by hash": ("eth_getBlockByHash", block_hash, False),
        "receipt": ("eth_getTransactionReceipt", hash_),
        "transaction": ("eth_getTransactionByHash", hash_),
        "receipts": ("eth_getBlockReceipts", "0x2"),
        "receipts by hash": ("eth_getBlockReceipts", block_hash),
        "logs": ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x2"}),
        "mined": ("eth_getTransactionCount", anvil.address, "latest"),
        "pending": ("eth_getTransactionCount", anvil.address, "pending"),
        "fees": ("eth_feeHistory", "0x1", "latest", []),
        "final": ("eth_getBlockByNumber", "finalized", False),
    }
    return {name: call(proxy.url, *one) for name, one in asked.items()}


def test_a_node_that_lags(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Has no block, receipt, log or state of what came after it was frozen; then it catches up."""
    anvil = start_anvil(automine=False, slots_in_an_epoch=1)
    proxy = start_fault_proxy(anvil.rpc_url, anvil.rpc_url)
    anvil.mine()
    proxy.freeze(1)
    raw, hash_ = signed(anvil, to=None, data=LOG_0)
    proxy.current = 1
    assert call(proxy.url, SEND, raw) == hash_
    anvil.mine()
    block_hash = anvil.rpc("eth_getBlockByNumber", "0x2", False)["hash"]
    anvil.mine(9)
    behind = views(proxy, anvil, hash_, block_hash)
    assert (behind["head"], behind["latest"]["number"]) == ("0x1", "0x1")
    for name in ("block", "by hash", "receipt", "transaction", "receipts", "receipts by hash"):
        assert behind[name] is None, name
    assert (behind["logs"], behind["mined"], behind["pending"]) == ([], "0x0", "0x0")
    assert behind["fees"]["oldestBlock"] == "0x1"
    assert behind["final"]["number"] == "0x0"
    with pytest.raises(JsonRpcError, match="header not found"):
        call(proxy.url, "eth_getBalance", anvil.address, "0x2")
    assert call(proxy.url, "eth_getBlockReceipts", "0x3") is None
    proxy.thaw(1)
    assert call(proxy.url, "eth_getBlockReceipts", "0x3") == []
    ahead = views(proxy, anvil, hash_, block_hash)
    assert ahead["head"] == "0xb"
    assert len(ahead["receipts"]) == len(ahead["logs"]) == 1
    assert all(ahead.values())
    proxy.current = 0
    assert views(proxy, anvil, hash_, block_hash) == ahead
    proxy.freeze(0, at=2)
    assert views(proxy, anvil, hash_, block_hash)["receipt"] == ahead["receipt"]
    assert call(proxy.url, "eth_blockNumber") == "0x2"


# --- geth ----------------------------------------------------------------------------------------


def refusal(proxy: FaultProxy, raw: str) -> tuple[int, str] | None:
    """Code and words with which a transaction is refused; None: it is taken."""
    try:
        call(proxy.url, SEND, raw)
    except JsonRpcError as error:
        return error.code, error.message
    return None


def test_words_of_geth(anvil: Anvil, proxy: FaultProxy) -> None:
    """In place of anvil's, with geth's code; what anvil says is seen too."""
    first, second = signed(anvil), signed(anvil, value=1)
    rich = signed(anvil, 1, value=10**23)
    assert refusal(proxy, first[0]) is None
    anvils = [refusal(proxy, first[0]), refusal(proxy, rich[0])]
    proxy.geth_words = True
    assert refusal(proxy, first[0]) == (-32000, "already known")
    anvil.mine()
    assert refusal(proxy, second[0]) == (-32000, "nonce too low: next nonce 1, tx nonce 0")
    code, words = refusal(proxy, rich[0]) or (0, "")
    assert (code, words.partition(":")[0]) == (-32000, "insufficient funds for gas * price + value")
    proxy.geth_words = False
    assert [*anvils, refusal(proxy, second[0])] == [
        (-32003, "transaction already imported"),
        (-32003, "Insufficient funds for gas * price + value"),
        (-32003, "nonce too low"),
    ]


def raised(max_fee_percent: float, tip_percent: float) -> dict[str, int]:
    """The fees of `FEES`, so many per cent higher."""
    percents = zip(FEES.items(), (max_fee_percent, tip_percent), strict=True)
    return {name: int(fee * (100 + percent) / 100) for (name, fee), percent in percents}


@pytest.mark.parametrize(
    ("percents", "taken"),
    [((10, 10), True), ((12.5, 12.5), True), ((9.99, 20), False), ((20, 9.99), False), ((5, 5), False)],
)
def test_strict_replacements(
    anvil: Anvil, proxy: FaultProxy, percents: tuple[float, float], taken: bool
) -> None:
    """Both fees have to be 10 % higher; the same bytes are no replacement, anvil's 1 wei is not enough."""
    proxy.strict_replacements = True
    assert refusal(proxy, signed(anvil)[0]) is None
    assert refusal(proxy, signed(anvil)[0]) == (-32003, "transaction already imported")
    new = signed(anvil, **raised(*percents))
    expected = None if taken else (-32000, "replacement transaction underpriced")
    assert refusal(proxy, new[0]) == expected
    (waiting,) = anvil.rpc("txpool_content")["pending"][anvil.address.lower()].values()
    assert (waiting["hash"] == new[1]) is taken
    # Compared with the one that was taken last; other nonces are their own.
    again = signed(anvil, **raised(*(percent + 10 for percent in percents)))
    assert (refusal(proxy, again[0]) is None) is not taken
    assert refusal(proxy, signed(anvil, 1)[0]) is None


def test_anvil_alone_is_not_strict(anvil: Anvil, proxy: FaultProxy) -> None:
    """Which is why the proxy is."""
    assert refusal(proxy, signed(anvil)[0]) is None
    assert refusal(proxy, signed(anvil, **raised(1, 1))[0]) is None


def test_strict_replacements_of_a_gas_price(anvil: Anvil, proxy: FaultProxy) -> None:
    """It is both fees, between both types of transactions."""
    proxy.strict_replacements = True
    assert refusal(proxy, signed(anvil, gasPrice=100 * GWEI)[0]) is None
    assert refusal(proxy, signed(anvil, gasPrice=109 * GWEI)[0])
    assert refusal(proxy, signed(anvil, maxFeePerGas=120 * GWEI, maxPriorityFeePerGas=20 * GWEI)[0])
    assert refusal(proxy, signed(anvil, gasPrice=110 * GWEI)[0]) is None


def test_strict_replacements_of_what_anvil_forgot(anvil: Anvil, proxy: FaultProxy) -> None:
    """geth would still have a transaction that anvil has dropped; one that is mined is no matter of fees."""
    proxy.strict_replacements = True
    raw, hash_ = signed(anvil)
    assert refusal(proxy, raw) is None
    anvil.rpc("anvil_dropTransaction", hash_)
    assert refusal(proxy, signed(anvil, value=1)[0]) == (-32000, "replacement transaction underpriced")
    assert refusal(proxy, raw) is None
    anvil.mine()
    assert refusal(proxy, signed(anvil, value=1)[0]) == (-32003, "nonce too low")


def test_what_was_sent_is_recorded(anvil: Anvil, proxy: FaultProxy) -> None:
    """In order: hash, nonce, fees and the node's answer, whatever the client was told of it."""
    first, second = signed(anvil), signed(anvil, 1, gasPrice=50 * GWEI)
    proxy.cut_reply(SEND)
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, first[0])
    proxy.answer_status(SEND, 429)
    post(proxy, request(1, SEND, first[0]))
    assert refusal(proxy, first[0])
    assert refusal(proxy, second[0]) is None
    assert refusal(proxy, "0x02ff")
    assert refusal(proxy, "0x")
    fees = (100 * GWEI, 10 * GWEI)
    assert proxy.sent == [
        (first[1], 0, *fees, "accepted"),
        (first[1], 0, *fees, None),
        (first[1], 0, *fees, "transaction already imported"),
        (second[1], 1, 50 * GWEI, 50 * GWEI, "accepted"),
    ]
    assert proxy.counts[SEND] == 6


# --- the proxy's own end -------------------------------------------------------------------------


def test_its_end_lets_go_what_is_held(anvil: Anvil) -> None:
    """No test hangs because a reply was held."""
    with ThreadPoolExecutor() as pool:
        with FaultProxy(anvil.rpc_url) as proxy:
            fault = proxy.hold_reply(SEND)
            held = pool.submit(call, proxy.url, SEND, signed(anvil)[0])
            assert fault.happened.wait(10)
        until(held.done, seconds=10, what="the held request has ended")
        with pytest.raises(OSError, match=r"refused"):
            call(proxy.url, "eth_chainId")


def test_a_fault_of_its_own_is_told(anvil: Anvil) -> None:
    """It would look like a node's otherwise."""

    def broken(params: Any) -> bool:
        raise LookupError("this test")

    proxy = FaultProxy(anvil.rpc_url).__enter__()
    proxy.refuse(ANY, when=broken)
    with pytest.raises(ConnectionError):
        call(proxy.url, "eth_chainId")
    with pytest.raises(LookupError, match="this test"):
        proxy.__exit__(None)

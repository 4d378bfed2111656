"""Promise: what settling asks of a node is of one moment and one node where that matters, takes few
requests, and what a node can't tell is never taken for an answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from pipeline.chain import anchoring
from pipeline.chain.block_receipts import BLOCKS_PER_REQUEST
from pipeline.chain.blocks import BlockReceiptsUnsupported, Receipt
from pipeline.chain.client import TRANSFER_GAS, ChainClient
from pipeline.chain.fees import GWEI, Fees
from pipeline.chain.registry import Revert, RevertKind, encode
from pipeline.chain.rpc import RpcError
from pipeline.chain.transaction import PreparedTransaction
from pipeline.errors import ChainError, FeeCeiling, NodeUnreachable
from tests.chain import AnyServer, mined, new_client, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

BLOCK, CALL, LOGS, RECEIPTS = "eth_getBlockByNumber", "eth_call", "eth_getLogs", "eth_getBlockReceipts"
BELOW_LONDON = ["--hardfork=berlin", "--gas-price=3000000000"]


@pytest.fixture(params=["anvil", "evm_server"])
def server(request: pytest.FixtureRequest) -> AnyServer:
    """Each kind of node."""
    found: AnyServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before the test's anvil."""
    return start_fault_proxy(anvil.rpc_url)


@pytest.fixture
def client(anvil: Anvil, proxy: FaultProxy) -> ChainClient:
    """A client that knows only the proxy, and is connected."""
    contract = registered(anvil).contract_address
    client = new_client(anvil, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    return client


def next_anchor(client: ChainClient, root: bytes | None = None) -> PreparedTransaction:
    """A signed anchor with the signer's next nonce."""
    return client.prepare_anchor(
        root or secrets.token_bytes(32), client.transaction_counts()[1], client.fees()
    )


def anchored(client: ChainClient, root: bytes | None = None) -> Receipt:
    """The receipt of an anchor."""
    transaction = next_anchor(client, root)
    assert client.send(transaction.raw).taken
    return mined(client, transaction)


def lose(client: ChainClient, proxy: FaultProxy) -> None:
    """Lose the node, and find it again."""
    proxy.down = True
    with pytest.raises(NodeUnreachable):
        client.head()
    proxy.down = False
    client.head()


# --- heads ---------------------------------------------------------------------------------------


def test_heads(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """The newest block and both counts of the signer, or of another one, in one HTTP request."""
    anvil.rpc("evm_setAutomine", False)
    assert client.send(next_anchor(client).raw).taken
    before = proxy.http_requests
    heads = client.heads()
    assert proxy.http_requests == before + 1
    assert heads.head == client.head()
    assert (heads.mined_nonce, heads.pending_nonce) == (1, 2)
    other = client.heads(anvil.accounts[1].address)
    assert (other.mined_nonce, other.pending_nonce) == (0, 0)


def test_heads_of_the_embedded_node(server: AnyServer) -> None:
    """Each kind of node serves them."""
    client = new_client(server)
    heads = client.heads()
    assert heads.head.number == client.head().number
    assert (heads.mined_nonce, heads.pending_nonce) == client.transaction_counts()


@pytest.mark.parametrize(("slots", "finalized"), [(1, 8), (32, 0)])
def test_the_finalized_head(start_anvil: Callable[..., Anvil], slots: int, finalized: int) -> None:
    """As the node tells it; anvil calls final what is two epochs old."""
    server = start_anvil(slots_in_an_epoch=slots)
    server.mine(10)
    assert new_client(server).heads().finalized == finalized


def test_a_node_that_calls_nothing_final(proxy: FaultProxy, client: ChainClient) -> None:
    """It answers with an error, or with null; the rest of the heads is told all the same."""
    proxy.answer_error(BLOCK, "invalid block tag", when=lambda params: params[0] == "finalized")
    proxy.answer_result(BLOCK, None, when=lambda params: params[0] == "finalized")
    for _ in range(2):
        heads = client.heads()
        assert (heads.finalized, heads.head.number) == (None, 1)


def test_heads_without_a_count_are_none(proxy: FaultProxy, client: ChainClient) -> None:
    """An error in place of a count is not a count of 0."""
    proxy.answer_error("eth_getTransactionCount", "internal error")
    with pytest.raises(RpcError, match="internal error"):
        client.heads()


def test_whose_transaction_used_a_nonce(server: AnyServer) -> None:
    """Somebody else's, when it is used up to that block and the node knows of none of ours."""
    client = registered(server)
    receipt = anchored(client)
    nonce, unknown = client.transaction_counts()[0] - 1, "0x" + "ab" * 32

    def foreign(*hashes: str, later: int = 0) -> bool:
        return client.is_foreign(client.signer_address, nonce + later, hashes)

    assert foreign(unknown)
    assert not foreign(unknown, receipt.transaction_hash)
    assert not foreign(unknown, later=1)


def test_whose_transaction_used_a_nonce_is_asked_at_once(proxy: FaultProxy, client: ChainClient) -> None:
    """In one request, so that one node says it all; an error in it is no answer."""
    client.head()
    before = proxy.http_requests
    assert not client.is_foreign(client.signer_address, 10**6, ["0x" + "ab" * 32] * 3)
    assert proxy.http_requests - before == 1
    proxy.answer_error("eth_getTransactionReceipt", "transaction indexing is in progress")
    with pytest.raises(RpcError):
        client.is_foreign(client.signer_address, 0, ["0x" + "ab" * 32])


def test_what_the_node_can_not_tell_is_not_known(
    proxy: FaultProxy, client: ChainClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the place of one receipt or block takes nothing from the others; the log has it."""
    proxy.answer_error("eth_getTransactionReceipt", "transaction indexing is in progress")
    proxy.answer_error("eth_getBlockByNumber", "pruned history unavailable", when=lambda p: p[0] == "0x0")
    unknown = "0x" + "ab" * 32
    receipts, blocks = client.receipts_and_blocks([unknown], [0, 1])
    assert receipts == {unknown: None}
    assert blocks[0] is None
    assert blocks[1] is not None
    assert "2 of 3 answers are missing" in caplog.text


def test_which_transactions_a_node_has(anvil: Anvil, client: ChainClient) -> None:
    """Mined, or in its pool, or neither."""
    done = anchored(client).transaction_hash
    anvil.rpc("evm_setAutomine", False)
    waiting, nowhere = next_anchor(client), "0x" + "11" * 32
    assert client.send(waiting.raw).taken
    assert client.knows([nowhere, done, waiting.hash]) == {nowhere: False, done: True, waiting.hash: True}


def test_the_first_block_is_asked_once_for_each_connection(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """The chain that a node has when it comes back may be another one."""
    first, second = start_anvil(), start_anvil(more=["--timestamp=1700000000"])
    proxy = start_fault_proxy(first.rpc_url, second.rpc_url)
    client = new_client(first, blockchain_rpc_url=proxy.url)
    client.head()
    before = proxy.counts[BLOCK]
    assert client.genesis_hash() == client.genesis_hash() == first.rpc(BLOCK, "0x0", False)["hash"]
    assert proxy.counts[BLOCK] == before + 1
    proxy.current = 1
    lose(client, proxy)
    assert client.genesis_hash() == second.rpc(BLOCK, "0x0", False)["hash"]


# --- blocks of receipts --------------------------------------------------------------------------


def test_block_receipts(server: AnyServer) -> None:
    """The same receipts as one by one; None for a block that is not there yet."""
    client = registered(server)
    receipts = [anchored(client) for _ in range(3)]
    found = client.block_receipts([*(receipt.block_number for receipt in receipts), 10**9])
    assert found == {receipt.block_number: [receipt] for receipt in receipts} | {10**9: None}


def test_block_receipts_in_few_requests(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Some blocks at a time, for a full one is large; an empty block has none."""
    anvil.mine(20)
    before = proxy.http_requests
    assert client.block_receipts(range(2, 22)) == {number: [] for number in range(2, 22)}
    assert proxy.http_requests - before == -(-20 // BLOCKS_PER_REQUEST)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-32601, "Method not found"),
        (-32600, "Invalid request"),
        (-32000, "the method eth_getBlockReceipts does not exist/is not available"),
        (-32004, "Unsupported method: eth_getBlockReceipts"),
    ],
)
def test_a_node_without_block_receipts(proxy: FaultProxy, client: ChainClient, code: int, words: str) -> None:
    """Is asked once, and once more when it was lost: another one may be there then."""
    proxy.answer_error(RECEIPTS, words, 2, code=code)
    for _ in range(3):
        with pytest.raises(BlockReceiptsUnsupported):
            client.block_receipts([1])
    assert proxy.counts[RECEIPTS] == 1
    lose(client, proxy)
    with pytest.raises(BlockReceiptsUnsupported):
        client.block_receipts([1])
    lose(client, proxy)
    assert client.block_receipts([1])[1]
    assert proxy.counts[RECEIPTS] == 3


def test_other_errors_of_block_receipts(proxy: FaultProxy, client: ChainClient) -> None:
    """A block that a node does not have, and trouble of its own: neither means that it has no such method."""
    proxy.answer_error(RECEIPTS, "header not found")
    assert client.block_receipts([1]) == {1: None}
    proxy.answer_error(RECEIPTS, "internal error", code=-32603)
    with pytest.raises(RpcError, match="internal error"):
        client.block_receipts([1])
    assert client.block_receipts([1])[1]


# --- where a root was anchored -------------------------------------------------------------------


def test_the_transaction_that_anchored_a_root(server: AnyServer) -> None:
    """Found among others'; None for a root that nobody has anchored."""
    client = registered(server)
    root = secrets.token_bytes(32)
    anchored(client)
    assert client.anchoring_transaction(root) is None
    receipt = anchored(client, root)
    anchored(client)
    assert client.anchoring_transaction(root) == receipt.transaction_hash


@pytest.mark.parametrize("seconds", [12, 0])
@pytest.mark.parametrize("code", [-32602, -32005])
def test_a_root_on_a_long_chain(
    anvil: Anvil,
    proxy: FaultProxy,
    client: ChainClient,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    code: int,
) -> None:
    """In few requests, though the node gives the logs of few blocks at once; also where many blocks have one
    timestamp, and where the node says it with the code of a rate limit."""
    monkeypatch.setattr(anchoring, "RANGE_BLOCKS", 40)
    roots = [secrets.token_bytes(32) for _ in range(3)]
    hashes = []
    for root in roots:
        anvil.rpc("anvil_mine", hex(60), hex(seconds))
        hashes.append(anchored(client, root).transaction_hash)
    anvil.rpc("anvil_mine", hex(60), hex(seconds))
    refused = proxy.answer_error(
        LOGS,
        "query exceeds max block range 20",
        None,
        code=code,
        when=lambda params: int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 20,
    )
    before = proxy.http_requests
    assert [client.anchoring_transaction(root) for root in roots] == hashes
    assert refused.used
    if seconds:
        assert proxy.http_requests - before <= 3 * 12


def test_a_node_without_logs(proxy: FaultProxy, client: ChainClient) -> None:
    """No logs at all: an error. None that old: nobody knows."""
    root = secrets.token_bytes(32)
    anchored(client, root)
    proxy.answer_result(LOGS, [])
    assert client.anchoring_transaction(root) is None
    proxy.do_not_serve(LOGS)
    with pytest.raises(RpcError, match="does not exist"):
        client.anchoring_transaction(root)


def test_only_a_registrys_own_log_counts(anvil: Anvil, client: ChainClient) -> None:
    """The same root in another registry is another anchor."""
    root = secrets.token_bytes(32)
    other = registered(anvil)
    anchored(other, root)
    receipt = anchored(client, root)
    assert client.anchoring_transaction(root) == receipt.transaction_hash
    assert anchoring.find(other.rpc, other.registry, root) != receipt.transaction_hash


# --- why a transaction failed --------------------------------------------------------------------


class Owner:
    """Gives and takes the issuer's role; all waits for `Anvil.mine`."""

    def __init__(self, anvil: Anvil, client: ChainClient) -> None:
        self._anvil, self._client = anvil, client
        anvil.rpc("evm_setAutomine", False)

    def role(self, name: str) -> None:
        """``addIssuer`` or ``removeIssuer`` with the signer's next nonce."""
        fields = {
            "from": self._anvil.address,
            "to": self._client.contract_address,
            "data": "0x" + encode(name, self._anvil.address).hex(),
            "maxFeePerGas": hex(20 * GWEI),
            "maxPriorityFeePerGas": hex(GWEI),
            "gas": hex(100_000),
        }
        self._anvil.rpc("eth_sendTransaction", fields)

    def anchor(self, root: bytes | None = None) -> PreparedTransaction:
        """An anchor with the signer's next nonce."""
        nonce = self._client.transaction_counts()[1]
        fees = Fees(20 * GWEI, GWEI)
        transaction = self._client.prepare_anchor(root or secrets.token_bytes(32), nonce, fees)
        assert self._client.send(transaction.raw).taken
        return transaction


def failed(client: ChainClient, transaction: PreparedTransaction) -> Receipt:
    """The receipt of what has failed."""
    receipt = mined(client, transaction)
    assert receipt.status == 0
    return receipt


NOT_AN_ISSUER = Revert(RevertKind.NOT_AN_ISSUER, "not an issuer")
ALREADY_ANCHORED = Revert(RevertKind.ALREADY_ANCHORED, "already anchored")


@pytest.mark.parametrize("given_back", ["never", "later", "in the same block"])
def test_without_the_role(anvil: Anvil, client: ChainClient, given_back: str) -> None:
    """Told by the state after the block, or by the one before it."""
    owner = Owner(anvil, client)
    owner.role("removeIssuer")
    anvil.mine()
    transaction = owner.anchor()
    if given_back == "in the same block":
        owner.role("addIssuer")
    anvil.mine()
    if given_back == "later":
        owner.role("addIssuer")
        anvil.mine()
    assert client.revert(failed(client, transaction)) == NOT_AN_ISSUER


def test_what_only_was_in_the_middle_of_a_block(anvil: Anvil, client: ChainClient) -> None:
    """Taken and given back in the block itself: nobody can tell any more."""
    owner = Owner(anvil, client)
    owner.role("removeIssuer")
    transaction = owner.anchor()
    owner.role("addIssuer")
    anvil.mine()
    revert = client.revert(failed(client, transaction))
    assert revert == Revert(RevertKind.OVER, "the same call succeeds now")


def anchored_twice(anvil: Anvil, client: ChainClient) -> Receipt:
    """The receipt of the second try."""
    owner = Owner(anvil, client)
    root = secrets.token_bytes(32)
    owner.anchor(root)
    second = owner.anchor(root)
    anvil.mine()
    return failed(client, second)


def test_a_node_that_has_forgotten_old_states(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """It calls with what it has now; without any state it is an error, not a reason."""
    receipt = anchored_twice(anvil, client)
    assert client.revert(receipt) == ALREADY_ANCHORED
    forgotten = proxy.answer_error(CALL, "missing trie node", None, when=lambda params: params[1] != "latest")
    assert client.revert(receipt) == ALREADY_ANCHORED
    forgotten.end()
    proxy.answer_error(CALL, "missing trie node", 3)
    with pytest.raises(RpcError, match="missing trie node"):
        client.revert(receipt)


def test_a_node_that_is_not_there_yet(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """It lacks the transaction, or has another block at that height: it can not tell, which is no reason."""
    receipt = anchored_twice(anvil, client)
    proxy.answer_result("eth_getTransactionByHash", None)
    with pytest.raises(ChainError, match="does not know transaction"):
        client.revert(receipt)
    for other in (None, anvil.rpc(BLOCK, "0x0", False)):
        proxy.answer_result(BLOCK, other)
        with pytest.raises(ChainError, match="another block"):
            client.revert(receipt)
    assert client.revert(receipt) == ALREADY_ANCHORED


def test_no_reason_was_given(anvil: Anvil, client: ChainClient) -> None:
    """Too little gas: the contract never came to say a word."""
    owner = Owner(anvil, client)
    client._guards._gas_limit = 25_000
    transaction = owner.anchor()
    anvil.mine()
    assert client.revert(failed(client, transaction)) == Revert(RevertKind.OTHER, "it gave no reason")


# --- fillers and replacements --------------------------------------------------------------------


def test_a_filler_uses_up_a_nonce(server: AnyServer) -> None:
    """And nothing else: no value, no data, 21,000 gas."""
    client = new_client(server)
    nonce = client.transaction_counts()[1]
    filler = client.prepare_filler(nonce, client.fees())
    assert (filler.nonce, filler.gas_limit) == (nonce, TRANSFER_GAS)
    assert client.send(filler.raw).taken
    receipt = mined(client, filler)
    assert (receipt.status, receipt.gas_used) == (1, TRANSFER_GAS)
    assert client.transaction_counts()[0] == nonce + 1
    sent = client.rpc.call("eth_getTransactionByHash", [filler.hash])
    assert (sent["from"], sent["to"]) == (client.signer_address.lower(), client.signer_address.lower()) or (
        sent["from"] == sent["to"] == client.signer_address
    )
    assert (int(sent["value"], 16), sent["input"]) == (0, "0x")


def test_the_gas_of_a_filler(proxy: FaultProxy, client: ChainClient) -> None:
    """Where a chain charges for more than a transfer; asked once, and not fatal where a node can not tell."""
    fees = Fees(20 * GWEI, GWEI)
    proxy.answer_error("eth_estimateGas", "internal error")
    assert client.prepare_filler(1, fees).gas_limit == TRANSFER_GAS
    proxy.answer_result("eth_estimateGas", hex(100_000))
    assert [client.prepare_filler(nonce, fees).gas_limit for nonce in (1, 2)] == [120_000] * 2


def test_a_replacement_takes_the_place(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> None:
    """geth would take it, and it is mined; twice in a row."""
    proxy = start_fault_proxy(anvil.rpc_url, strict_replacements=True)
    contract = registered(anvil).contract_address
    client = new_client(anvil, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    anvil.rpc("evm_setAutomine", False)
    transaction = next_anchor(client)
    assert client.send(transaction.raw).taken
    for _ in range(2):
        fees = client.replacement_fees(Fees(transaction.max_fee_wei, transaction.tip_wei))
        transaction = client.prepare_anchor(secrets.token_bytes(32), 1, fees)
        assert client.send(transaction.raw).taken
    anvil.mine()
    assert mined(client, transaction).status == 1


def test_a_replacement_with_a_gas_price(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """On a chain before London."""
    server = start_anvil(more=BELOW_LONDON)
    contract = registered(server).contract_address
    proxy = start_fault_proxy(server.rpc_url, strict_replacements=True)
    client = new_client(server, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    client.check_guards()
    server.rpc("evm_setAutomine", False)
    fees = client.fees()
    assert client.send(client.prepare_anchor(secrets.token_bytes(32), 1, fees).raw).taken
    raised = client.replacement_fees(fees)
    assert raised.legacy
    filler = client.prepare_filler(1, raised)
    assert client.send(filler.raw).taken
    server.mine()
    assert mined(client, filler).gas_price_wei == raised.max_fee_wei >= fees.max_fee_wei * 9 / 8


def test_no_replacement_above_the_ceiling(anvil: Anvil) -> None:
    """Though the transaction itself pays far less: the chain asks for more than what may be paid."""
    client = new_client(anvil, blockchain_max_fee_gwei=50)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * GWEI))
    anvil.mine()
    with pytest.raises(FeeCeiling, match=r"BLOCKCHAIN_MAX_FEE_GWEI is 50"):
        client.replacement_fees(Fees(2 * GWEI, GWEI))


def test_fees_are_those_of_the_newest_block(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Told of a new head they are asked again; told of the same one they are not."""
    client.new_head(client.head().number)
    before = client.fees()
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(40 * GWEI))
    anvil.mine()
    client.new_head(client.head().number)
    after = client.fees()
    assert after.max_fee_wei > 2 * before.max_fee_wei
    asked = proxy.counts["eth_feeHistory"]
    client.new_head(client.head().number)
    client.fees()
    assert proxy.counts["eth_feeHistory"] == asked

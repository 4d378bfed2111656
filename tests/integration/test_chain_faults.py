"""Promise: what a node, or two that disagree, say to `ChainClient` is handled as the table in
`pipeline.chain.answers` says, also in geth's words and with geth's strictness.

The way itself (hanging, garbage, every HTTP status, Retry-After in all its forms, half of an answer)
is in ``chain_rpc/``; the words of other nodes are in ``unit/test_chain_answers.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.chain.answers import AnswerKind, SendAnswer
from pipeline.chain.client import ChainClient
from pipeline.chain.fees import GWEI, Fees
from pipeline.chain.transaction import PreparedTransaction
from pipeline.errors import NodeUnreachable
from tests.chain import registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy
from tests.waiting import until

FEES = Fees(max_fee_wei=20 * GWEI, tip_wei=2 * GWEI)


def client_of(anvil: Anvil, *urls: str) -> ChainClient:
    """A client of these URLs, and of a new registry."""
    client = registered(anvil, blockchain_rpc_url=",".join(urls))
    client.check_guards()
    return client


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """The anvil as it would be if it were geth."""
    return start_fault_proxy(anvil.rpc_url, geth_words=True, strict_replacements=True)


@pytest.fixture
def client(anvil: Anvil, proxy: FaultProxy) -> ChainClient:
    """A client that knows only the proxy; nothing is mined any more but on demand."""
    client = client_of(anvil, proxy.url)
    anvil.stop_mining()
    return client


def anchor(client: ChainClient, nonce: int, fees: Fees = FEES) -> PreparedTransaction:
    """A signed anchor of a new root."""
    return client.prepare_anchor(secrets.token_bytes(32), nonce, fees)


def pooled(anvil: Anvil) -> set[str]:
    """The hashes of what waits in the node."""
    waiting = anvil.rpc("txpool_content")["pending"].get(anvil.address.lower(), {})
    return {transaction["hash"] for transaction in waiting.values()}


# --- what geth says to a send --------------------------------------------------------------------


def test_already_known(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Success: the node has the bytes, once."""
    sent = anchor(client, 1)
    assert client.send(sent.raw).kind is AnswerKind.ACCEPTED
    assert client.send(sent.raw) == SendAnswer(AnswerKind.ALREADY_KNOWN, "already known")
    assert client.send(sent.raw).taken
    assert pooled(anvil) == {sent.hash}


def test_nonce_too_low_next_nonce(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """The nonce is used, by the same bytes or by others: whose, the receipts of all own hashes tell."""
    mined, late = anchor(client, 1), anchor(client, 1)
    assert client.send(mined.raw).taken
    anvil.mine()
    used = SendAnswer(AnswerKind.NONCE_USED, "nonce too low: next nonce 2, tx nonce 1")
    assert [client.send(mined.raw), client.send(late.raw)] == [used, used]
    assert not used.taken
    receipts = client.receipts([late.hash, mined.hash])
    assert receipts[late.hash] is None
    assert receipts[mined.hash]


def test_nonce_too_low_of_a_node_that_is_ahead(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Numbers that fit nothing we know change nothing."""
    proxy.answer_error(SEND, "nonce too low: next nonce 5, tx nonce 3")
    answer = client.send(anchor(client, 3).raw)
    assert answer == SendAnswer(AnswerKind.NONCE_USED, "nonce too low: next nonce 5, tx nonce 3")
    assert pooled(anvil) == set()


@pytest.mark.parametrize(
    ("fees", "kind"),
    [
        (Fees(FEES.max_fee_wei * 9 // 8, FEES.tip_wei * 9 // 8), AnswerKind.ACCEPTED),
        (Fees(FEES.max_fee_wei * 9 // 8, FEES.tip_wei), AnswerKind.UNDERPRICED_REPLACEMENT),
        (Fees(FEES.max_fee_wei, FEES.tip_wei * 9 // 8), AnswerKind.UNDERPRICED_REPLACEMENT),
    ],
    ids=["both", "only the cap", "only the tip"],
)
def test_replacement(
    anvil: Anvil, proxy: FaultProxy, client: ChainClient, fees: Fees, kind: AnswerKind
) -> None:
    """12.5 % on both fields is enough for geth, on one is not; refused, the first one stays."""
    first, second = anchor(client, 1), anchor(client, 1, fees)
    assert client.send(first.raw).taken
    assert client.send(second.raw).kind is kind
    assert pooled(anvil) == {(second if kind is AnswerKind.ACCEPTED else first).hash}


def test_insufficient_funds(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Not a word that gives the nonce up: the same bytes are taken once there is money."""
    sent = anchor(client, 1)
    balance = client.balance_wei()
    anvil.rpc("anvil_setBalance", anvil.address, "0x0")
    answer = client.send(sent.raw)
    assert answer.kind is AnswerKind.FUNDS
    assert answer.text == "insufficient funds for gas * price + value: balance 0"
    anvil.rpc("anvil_setBalance", anvil.address, hex(balance))
    assert client.send(sent.raw).kind is AnswerKind.ACCEPTED


# --- sends on a bad way --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "truncated", "broken"])
def test_reply_lost_after_broadcast(anvil: Anvil, proxy: FaultProxy, client: ChainClient, fault: str) -> None:
    """Unknown, sent once, and the node has it; the same bytes again say so, before and after mining."""
    sent = anchor(client, 1)
    if fault == "cut":
        proxy.cut_reply(SEND)
    else:
        proxy.truncate_reply(SEND, broken=fault == "broken")
    answer = client.send(sent.raw)
    assert answer.kind is AnswerKind.UNKNOWN
    assert not answer.taken
    assert pooled(anvil) == {sent.hash}
    assert proxy.counts[SEND] == 1
    assert client.send(sent.raw).kind is AnswerKind.ALREADY_KNOWN
    anvil.mine()
    assert client.send(sent.raw).kind is AnswerKind.NONCE_USED
    assert [one.answer for one in proxy.sent] == [
        "accepted",
        "already known",
        "nonce too low: next nonce 2, tx nonce 1",
    ]


@pytest.mark.parametrize("status", [429, 502, 503])
def test_http_status_of_a_send(anvil: Anvil, proxy: FaultProxy, client: ChainClient, status: int) -> None:
    """Unknown, never an exception nor a refusal, asked once; then the same bytes are taken."""
    sent = anchor(client, 1)
    proxy.answer_status(SEND, status, retry_after=0)
    answer = client.send(sent.raw)
    assert answer == SendAnswer(AnswerKind.UNKNOWN, f"{proxy.url} answered HTTP {status}")
    assert (proxy.counts[SEND], pooled(anvil)) == (1, set())
    assert client.send(sent.raw).kind is AnswerKind.ACCEPTED


def test_retry_after_holds_for_sends(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Until two seconds are over neither a send nor a read reaches the node; no send counts as refused."""
    sent = anchor(client, 1)
    proxy.answer_status(SEND, 429, retry_after=2)
    asked = proxy.http_requests + 1
    assert client.send(sent.raw).kind is AnswerKind.UNKNOWN
    answer = client.send(sent.raw)
    assert answer.kind is AnswerKind.UNKNOWN
    assert answer.text.startswith(f"{proxy.url} wants no requests for ")
    with pytest.raises(NodeUnreachable, match="wants no requests"):
        client.head()
    assert proxy.http_requests == asked
    until(lambda: client.send(sent.raw).taken, seconds=10, what="the pause is over")
    assert [one.answer for one in proxy.sent] == [None, "accepted"]


def test_429_goes_to_the_other_node(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> None:
    """And stays there for as long as the first wants no requests."""
    first, second = start_fault_proxy(anvil.rpc_url), start_fault_proxy(anvil.rpc_url)
    client = client_of(anvil, first.url, second.url)
    first.answer_status(SEND, 429, retry_after=60)
    assert client.send(anchor(client, 1).raw).kind is AnswerKind.ACCEPTED
    asked = first.http_requests
    assert client.send(anchor(client, 2).raw).taken
    assert client.head()
    assert (first.http_requests, second.counts[SEND]) == (asked, 2)


def test_down_and_up_again(anvil: Anvil, proxy: FaultProxy, client: ChainClient) -> None:
    """Reads say that no node answers, sends are unknown; afterwards both go on."""
    sent = anchor(client, 1)
    proxy.down = True
    with pytest.raises(NodeUnreachable, match="closed the connection"):
        client.head()
    assert client.send(sent.raw).kind is AnswerKind.UNKNOWN
    assert pooled(anvil) == set()
    proxy.down = False
    assert client.send(sent.raw).kind is AnswerKind.ACCEPTED


# --- two nodes that disagree ---------------------------------------------------------------------


class Two:
    """Two nodes of one chain, request by request; the second has stopped before the anchor was mined."""

    def __init__(self, anvil: Anvil, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.client = client_of(anvil, proxy.url)
        anvil.stop_mining()
        proxy.freeze(1)
        self.root = secrets.token_bytes(32)
        self.transaction = self.client.prepare_anchor(self.root, 1, FEES)
        assert self.client.send(self.transaction.raw).taken
        anvil.mine()
        proxy.alternate = True

    def both(self, ask: Callable[[], Any]) -> tuple[Any, Any]:
        """What the up-to-date one and the lagging one answer."""
        assert self.proxy.current == 0
        return ask(), ask()


@pytest.fixture
def two(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> Two:
    """Behind one URL, as a provider's load balancer has them."""
    return Two(anvil, start_fault_proxy(anvil.rpc_url, anvil.rpc_url, geth_words=True))


def test_nodes_disagree_on_receipts(two: Two) -> None:
    """A receipt, or None: an answer of which nothing follows, and no error."""
    hash_ = two.transaction.hash
    ahead, behind = two.both(lambda: two.client.receipts([hash_]))
    assert ahead[hash_].status == 1
    assert behind == {hash_: None}


def test_nodes_disagree_on_blocks(two: Two) -> None:
    """The head goes back and forth; a block above the lagging one's is None."""
    assert two.both(lambda: two.client.head().number) == (2, 1)
    ahead, behind = two.both(lambda: two.client.blocks([1, 2]))
    assert ahead[1] == behind[1]
    assert (ahead[2].number, behind[2]) == (2, None)
    assert two.both(lambda: two.client.block(3)) == (None, None)


def test_nodes_disagree_on_counts(two: Two) -> None:
    """Both numbers in one request: never those of two nodes."""
    assert two.both(two.client.transaction_counts) == ((2, 2), (1, 1))


def test_nodes_disagree_on_the_registry(two: Two) -> None:
    """False from a node that has not heard of it yet."""
    assert two.both(lambda: two.client.is_anchored(two.root)) == (True, False)


def test_nodes_disagree_on_what_is_final(
    start_anvil: Callable[..., Anvil], start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """The lagging one calls less final, and does serve it."""
    anvil = start_anvil(slots_in_an_epoch=1)
    two = Two(anvil, start_fault_proxy(anvil.rpc_url, anvil.rpc_url))
    anvil.mine(10)
    assert two.both(two.client.finalized_number) == (10, 0)


def test_nodes_disagree_on_a_send(two: Two) -> None:
    """The lagging node takes what is mined already, or says that it is used: never a refusal for good."""
    kinds = {answer.kind for answer in two.both(lambda: two.client.send(two.transaction.raw))}
    assert kinds == {AnswerKind.NONCE_USED}


def test_failover_to_a_node_that_lags(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> None:
    """The first is down: the second's view, then the first's again; the change is counted."""
    first, second = start_fault_proxy(anvil.rpc_url), start_fault_proxy(anvil.rpc_url)
    client = client_of(anvil, first.url, second.url)
    anvil.stop_mining()
    second.freeze(0)
    sent = anchor(client, 1)
    assert client.send(sent.raw).taken
    anvil.mine()
    connects = client.rpc.reconnects
    first.down = True
    assert client.receipts([sent.hash]) == {sent.hash: None}
    assert client.head().number == 1
    first.down = False
    until(lambda: client.head().number == 2, seconds=10, what="the first node is asked again")
    assert client.receipts([sent.hash])[sent.hash]
    assert client.rpc.reconnects >= connects + 2

"""Promise: a send never goes out twice by itself, nor counts as refused when it may have arrived."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.chain.answers import AnswerKind
from pipeline.chain.client import ChainClient
from pipeline.settings import Settings
from tests.chain import new_rpc
from tests.servers.http_proxy import GARBAGE, Proxy


def anchors(proxy: Proxy) -> tuple[ChainClient, list[bytes]]:
    """A client with a registry, and three signed anchors with consecutive nonces."""
    anvil = proxy.target
    usual = {"blockchain_private_key": anvil.private_key, "blockchain_chain_id": anvil.chain_id}
    deployed = ChainClient(Settings(blockchain_rpc_url=anvil.rpc_url, **usual)).deploy()
    client = ChainClient(
        Settings(blockchain_contract_address=deployed.contract_address, **usual), rpc=new_rpc(proxy)
    )
    client.check_guards()
    fees = client.fees()
    return client, [
        client.prepare_anchor(secrets.token_bytes(32), 1 + number, fees).raw for number in range(3)
    ]


@pytest.mark.parametrize("fault", ["cut", "half"])
def test_a_lost_reply_is_unknown_and_sent_once(proxy: Proxy, fault: str) -> None:
    """The transaction is there; the same bytes again find it, and the next nonces go on."""
    client, raws = anchors(proxy)
    proxy.target.stop_mining()
    proxy.faults = [fault]
    assert client.send(raws[0]).kind is AnswerKind.UNKNOWN
    assert proxy.methods.count("eth_sendRawTransaction") == 1
    assert client.transaction_counts() == (1, 2)
    assert client.send(raws[0]).kind is AnswerKind.ALREADY_KNOWN
    assert [client.send(raw).kind for raw in raws[1:]] == [AnswerKind.ACCEPTED] * 2


@pytest.mark.parametrize("fault", ["refuse", "hang", 429, 502, *GARBAGE.values()])
def test_a_send_without_answer_is_unknown(proxy: Proxy, fault: Any) -> None:
    """No exception, nothing sent twice, no token in the text."""
    client, raws = anchors(proxy)
    proxy.faults = [fault]
    before = len(proxy.bodies)
    answer = client.send(raws[0])
    assert answer.kind is AnswerKind.UNKNOWN
    assert answer.text.startswith(f"http://127.0.0.1:{proxy.port}/*** ")
    assert len(proxy.bodies) - before <= 1


def test_a_send_goes_to_the_next_url(start_proxy: Callable[[], Proxy]) -> None:
    """The same bytes: two nodes can not make two transactions of them."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    first.faults = ["refuse", "cut"]
    rpc = new_rpc(first, second)
    assert rpc.broadcast(raws[0]).kind is AnswerKind.ACCEPTED


def test_a_refusal_after_a_lost_reply_is_unknown(start_proxy: Callable[[], Proxy]) -> None:
    """The first node may have taken what the second refuses."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    refusal = b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": "invalid sender"}}'
    first.faults, second.faults = [502], [refusal]
    answer = new_rpc(first, second).broadcast(raws[0])
    assert answer.kind is AnswerKind.UNKNOWN
    assert "answered HTTP 502" in answer.text
    assert "invalid sender" in answer.text
    first.faults, second.faults = [429], [refusal]
    assert new_rpc(first, second).broadcast(raws[0]).kind is AnswerKind.FATAL


def test_several_are_one_request(proxy: Proxy) -> None:
    """An answer for each, in their order: what is wrong with one is not told of the others."""
    client, raws = anchors(proxy)
    proxy.target.stop_mining()
    proxy.bodies.clear()
    answers = client.send_many([raws[0], raws[0], b"\x02nonsense", *raws[1:]])
    kinds = [AnswerKind.ACCEPTED, AnswerKind.ALREADY_KNOWN, AnswerKind.FATAL, *[AnswerKind.ACCEPTED] * 2]
    assert [answer.kind for answer in answers] == kinds
    assert len(proxy.bodies) == 1


def test_where_no_batches_are_taken_each_is_a_request(proxy: Proxy) -> None:
    """In their order; and none is sent twice."""
    client, raws = anchors(proxy)
    proxy.target.stop_mining()
    proxy.faults = ["no batch"]
    proxy.bodies.clear()
    assert [answer.kind for answer in client.send_many(raws)] == [AnswerKind.ACCEPTED] * 3
    sent = [body["params"][0] for body in proxy.bodies[1:]]
    assert sent == ["0x" + raw.hex() for raw in raws]


#: A node's answer to three.
ALL_REFUSED = b"[%s]" % b",".join(
    b'{"jsonrpc": "2.0", "id": %d, "error": {"code": -32000, "message": "invalid sender"}}' % (10**6 + n)
    for n in range(3)
)


def test_one_by_one_what_was_sent_before_stays_in_doubt(start_proxy: Callable[[], Proxy]) -> None:
    """The first node takes one and has too much to do for the next: nobody else's refusal is for good."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    second.target.stop_mining()
    first.faults = ["no batch", None, 429]
    second.faults = [ALL_REFUSED]
    answers = new_rpc(first, second).broadcast_many(raws)
    assert {answer.kind for answer in answers} == {AnswerKind.UNKNOWN}


BAD_BATCHES = {
    "an answer too few": b'[{"jsonrpc": "2.0", "id": %d, "result": "0x01"}]',
    "one that is over the limit": (
        b'[{"jsonrpc": "2.0", "id": %d, "error": {"code": -32005, "message": "no"}},'
        b' {"jsonrpc": "2.0", "id": 1000001, "result": "0x01"},'
        b' {"jsonrpc": "2.0", "id": 1000002, "result": "0x02"}]'
    ),
}


@pytest.mark.parametrize("fault", ["cut", "half", "refuse", 429, 502, *BAD_BATCHES.values()])
def test_several_without_a_whole_answer_are_unknown(proxy: Proxy, fault: Any) -> None:
    """All of them: which the node has taken is not known, and none is refused by that."""
    client, raws = anchors(proxy)
    proxy.target.stop_mining()
    proxy.faults = [fault % 1_000_000 if isinstance(fault, bytes) else fault]
    assert {answer.kind for answer in client.send_many(raws)} == {AnswerKind.UNKNOWN}
    assert proxy.methods.count("eth_sendRawTransaction") == (0 if fault == "refuse" else 3)


def test_a_refusal_of_several_after_a_lost_reply_is_unknown(start_proxy: Callable[[], Proxy]) -> None:
    """The first node may have taken what the second refuses; what that has taken is taken."""
    first, second = start_proxy(), start_proxy()
    client, raws = anchors(second)
    second.target.stop_mining()
    assert client.send(raws[0]).taken
    first.faults = [502]
    kinds = [answer.kind for answer in new_rpc(first, second).broadcast_many([*raws[:2], b"\x02nonsense"])]
    assert kinds == [AnswerKind.ALREADY_KNOWN, AnswerKind.ACCEPTED, AnswerKind.UNKNOWN]


def test_a_member_over_the_limit_leaves_the_others_in_doubt(start_proxy: Callable[[], Proxy]) -> None:
    """It may have taken those before: what the next node refuses is not refused for good."""
    first, second = start_proxy(), start_proxy()
    _, raws = anchors(second)
    first.faults = [BAD_BATCHES["one that is over the limit"] % 1_000_000]
    second.faults = [ALL_REFUSED]
    answers = new_rpc(first, second).broadcast_many(raws)
    assert {answer.kind for answer in answers} == {AnswerKind.UNKNOWN}


def test_a_hundred_lost_replies(proxy: Proxy) -> None:
    """A hundred transactions, a hundred nonces, each sent again once."""
    client, _ = anchors(proxy)
    fees = client.fees()
    transactions = [client.prepare_anchor(secrets.token_bytes(32), 1 + number, fees) for number in range(100)]
    for transaction in transactions:
        proxy.faults = ["cut"]
        assert client.send(transaction.raw).kind is AnswerKind.UNKNOWN
        # anvil mines a moment after it has answered.
        assert client.send(transaction.raw).kind in (AnswerKind.ALREADY_KNOWN, AnswerKind.NONCE_USED)
    while client.transaction_counts() != (101, 101):
        pass  # the test's time-out ends it
    receipts = client.receipts([transaction.hash for transaction in transactions])
    assert [receipt.status for receipt in receipts.values() if receipt] == [1] * 100


def test_requests_for_each_write(proxy: Proxy) -> None:
    """Guards, fees and gas are shared by many writes: hardly more than the send itself is left."""
    client, _ = anchors(proxy)
    nonce = client.transaction_counts()[1]
    proxy.bodies.clear()
    for number in range(50):
        client.check_guards()
        transaction = client.prepare_anchor(secrets.token_bytes(32), nonce + number, client.fees())
        assert client.send(transaction.raw).taken
    assert proxy.methods.count("eth_sendRawTransaction") == 50
    assert proxy.methods.count("eth_estimateGas") <= 1
    assert len(proxy.methods) <= 2 * 50
    assert len(proxy.bodies) <= 50 + 5

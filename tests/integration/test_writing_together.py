"""Promise: batches that are written together share guards, commits and requests, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pipeline import chain_writing, holding, pausing, verification
from pipeline.chain.answers import AnswerKind
from pipeline.chain.client import ChainClient, chain_client
from pipeline.credentials import sync
from pipeline.ledger import incidents
from pipeline.merkle import MerkleTree
from pipeline.models import Batch, BatchState, State, Transaction, TransactionState, Write
from pipeline.settlement import healing, settle
from tests.issuer import document, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete, write
from tests.truth import assert_truthful

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def sent_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no node has goes out again with the next sweep."""
    monkeypatch.setattr(healing, "UNSENT_SECONDS", 0.0)


def states() -> list[str]:
    """Of all transactions, in the order of their nonces."""
    return [row.state for row in Transaction.select().order_by(Transaction.nonce)]


def verify_all() -> None:
    """Put what is queued into batches."""
    verification.verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])


def queued(count: int) -> None:
    """So many batches of one that are ready."""
    queue_documents(count)
    verify_all()


def settled_to_the_end(anvil: Anvil, count: int) -> None:
    """Everything is mined and confirmed, by the bytes that were signed first."""
    hashes = {row.hash for row in Transaction.select()}
    settle()
    anvil.mine()
    settle_and_complete()
    assert confirmed() == count
    assert {row.hash for row in Transaction.select()} == hashes
    assert_truthful(anvil, chain_settings())


def test_a_group_is_a_few_requests(proxy: FaultProxy, anvil: Anvil) -> None:
    """Sixty batches: as many transactions as ever, and hardly more requests than for one."""
    queued(60)
    chain_client().check_guards()
    before = proxy.http_requests
    while chain_writing.write_next():
        pass
    assert proxy.counts[SEND] == 60
    assert proxy.http_requests - before <= 6
    assert states() == [TransactionState.SENT] * 60
    settled_to_the_end(anvil, 60)


REFUSALS = {
    "who knows": AnswerKind.UNKNOWN,
    "txpool is full": AnswerKind.UNKNOWN,
    "nonce too low": AnswerKind.NONCE_USED,
    "insufficient funds for gas * price + value: balance 0": AnswerKind.FUNDS,
    "max fee per gas less than block base fee": AnswerKind.REPRICE,
    "nonce too high": AnswerKind.GAP,
    "intrinsic gas too low": AnswerKind.FATAL,
}


@pytest.mark.parametrize(("words", "kind"), REFUSALS.items())
def test_one_of_a_group_is_refused(proxy: FaultProxy, anvil: Anvil, words: str, kind: AnswerKind) -> None:
    """The answer counts for that one alone; its bytes go out again, and all five land."""
    queued(5)
    proxy.answer_error(SEND, words, skip=2)
    assert chain_writing.write_next()
    assert states() == ["sent", "sent", "signed", "sent", "sent"]
    answers = [row.answer for row in Transaction.select().order_by(Transaction.nonce)]
    assert [answer.split(":")[0] for answer in answers] == ["accepted"] * 2 + [kind.value] + ["accepted"] * 2
    assert (incidents.holding() is not None) is (kind is AnswerKind.FUNDS)
    settled_to_the_end(anvil, 5)
    assert {row.attempts for row in Write.select()} == {1}


@pytest.mark.parametrize("fault", ["cut_reply", "truncate_reply", "refuse"])
def test_the_reply_to_a_group_is_lost(proxy: FaultProxy, anvil: Anvil, fault: str) -> None:
    """All of them are unknown, none failed: the same bytes go out again, whether or not they had arrived."""
    queued(5)
    getattr(proxy, fault)(SEND)
    assert chain_writing.write_next()
    assert states() == [TransactionState.SIGNED] * 5
    assert {row.answer.split(":")[0] for row in Transaction.select()} == {"unknown"}
    assert anvil.pool_size == (0 if fault == "refuse" else 5)
    settled_to_the_end(anvil, 5)
    assert {row.attempts for row in Write.select()} == {1}


def test_a_process_dies_between_store_and_broadcast(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five intents are stored, nothing is sent: a sweep sends them, in the order of their nonces."""
    queued(5)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(ChainClient, "send_many", die)
        with pytest.raises(KeyboardInterrupt):
            chain_writing.write_next()
    assert (states(), proxy.sent) == ([TransactionState.SIGNED] * 5, [])
    assert Batch.select().where(Batch.state == BatchState.SUBMITTED).count() == 5
    settled_to_the_end(anvil, 5)
    nonces = [sent.nonce for sent in proxy.sent]
    assert nonces == sorted(nonces)


def test_what_died_before_goes_out_before(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next group sends what no node has yet, with the lower nonces, in the same request."""
    queued(5)
    with monkeypatch.context() as silent:
        silent.setattr("pipeline.sending.send_in_order", lambda *_: None)
        assert chain_writing.write_next(2)
    assert chain_writing.write_next()
    nonces = [sent.nonce for sent in proxy.sent]
    assert nonces == list(range(nonces[0], nonces[0] + 5))
    settled_to_the_end(anvil, 5)


def test_no_more_in_flight_than_allowed(proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]) -> None:
    """Twenty are ready, seven may be under way: exactly seven, and seven again once these are mined."""
    use(blockchain_max_in_flight=7)
    queued(20)
    for expected in (7, 14, 20):
        chain_writing.write_ready()
        assert Transaction.select().count() == expected
        assert anvil.pool_size == expected - confirmed()
        anvil.mine()
        settle_and_complete()
    assert confirmed() == 20


def test_a_fast_chain_is_written_to_in_one_turn(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """It has mined what was sent a moment ago: a sweep makes room at once, by nobody's message."""
    use(blockchain_max_in_flight=4)
    anvil.rpc("evm_setAutomine", True)
    queued(30)
    chain_writing.write_ready()
    assert Transaction.select().count() == 30
    settle_and_complete()
    assert confirmed() == 30
    assert_truthful(anvil, chain_settings())


def test_no_more_than_the_wallet_pays_for(proxy: FaultProxy, anvil: Anvil) -> None:
    """Three of five are paid for: three are signed, then writing is held, and goes on with money."""
    queued(5)
    chain = chain_client()
    chain.check_guards()
    anchor = chain.prepare_anchor(b"\x01" * 32, 1, chain.fees())
    each_wei = anchor.gas_limit * anchor.max_fee_wei
    anvil.rpc("anvil_setBalance", anvil.address, hex(each_wei * 3 + each_wei // 2))
    while chain_writing.write_next():
        pass
    assert Transaction.select().count() == 3
    assert incidents.holding() is not None
    anvil.rpc("anvil_setBalance", anvil.address, hex(10**20))
    settle()
    assert chain_writing.write_next()
    settled_to_the_end(anvil, 5)
    assert {row.attempts for row in Write.select()} == {1}


def test_a_pause_in_the_middle(proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches are chosen, and the guards pass: what is not signed when it is paused is not signed."""
    queued(5)
    check = holding.check

    def paused_meanwhile(chain: ChainClient, *, fresh: bool, used_below: int) -> holding.Fit:
        fit = check(chain, fresh=fresh, used_below=used_below)
        pausing.pause("somebody")
        return fit

    with monkeypatch.context() as pausing_:
        pausing_.setattr(holding, "check", paused_meanwhile)
        chain_writing.write_ready()
    assert Transaction.select().count() == 0
    pausing.resume("somebody")
    chain_writing.write_ready()
    settled_to_the_end(anvil, 5)


def test_urgent_ones_have_the_first_nonces(proxy: FaultProxy, anvil: Anvil) -> None:
    """Of a group, and of what fits into it."""
    queued(4)
    sync([{"credential_id": f"u{n}", "document": document(n), "priority": "urgent"} for n in range(100, 103)])
    verify_all()
    assert chain_writing.write_next(5)
    lanes = [row.batch.lane for row in Transaction.select().order_by(Transaction.nonce)]
    assert lanes == ["urgent"] * 3 + ["normal"] * 2


def test_a_bad_one_fails_alone(proxy: FaultProxy, anvil: Anvil) -> None:
    """Its root is another batch's, which no ledger would store: one attempt of its own, the others go out."""
    write(1)
    queue_documents(4, start=1)
    verify_all()
    taken = Write.get(Write.credential_id == "c0")
    Write.update(leaf=taken.leaf).where(Write.credential_id == "c2").execute()
    while chain_writing.write_next():
        pass
    left = Write.get(Write.credential_id == "c2")
    assert (left.state, left.attempts) == (State.VERIFIED, 1)
    assert left.due_at > time.time()
    others = Write.select().where(Write.credential_id != "c2")
    assert {(row.batch.state, row.due_at) for row in others} == {(BatchState.SUBMITTED, None)}
    nonces = [row.nonce for row in Transaction.select().order_by(Transaction.nonce)]
    assert nonces == list(range(nonces[0], nonces[0] + 4))


def test_trees_of_a_group(proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]) -> None:
    """Batches of several, together: each has the root of its own members, and their tree."""
    use(batch_max_size=3)
    queued(10)
    assert chain_writing.write_next()
    for batch in Batch.select():
        leaves = [bytes(row.leaf) for row in Write.select().where(Write.batch == batch.id)]
        assert batch.merkle_root == "0x" + MerkleTree(leaves).root.hex()
    settled_to_the_end(anvil, 10)

"""Promise: a sweep learns what became of every transaction with few requests, and believes no single node."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline import verification
from pipeline.chain.client import ChainClient, chain_client
from pipeline.chain.fees import Fees
from pipeline.errors import NodeUnreachable
from pipeline.ledger import batches, chains, nonces, transactions
from pipeline.ledger import incidents as ledger
from pipeline.ledger.batches import Account
from pipeline.models import Batch, BatchState, Incident, State, Transaction, TransactionState, Write
from pipeline.settings import Settings, get_settings
from pipeline.settlement import outcomes, settle, sweep
from tests.issuer import chain_variables, queue_documents
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete, write
from tests.truth import assert_truthful
from tests.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_whole_blocks_of_receipts(proxy: FaultProxy, anvil: Anvil) -> None:
    """Of 60 transactions in a block each receipt comes with the block's, in a handful of requests."""
    write(60)
    settle()
    anvil.mine()
    proxy.counts.clear()
    before = proxy.http_requests
    settle_and_complete()
    assert confirmed() == 60
    assert (proxy.counts["eth_getBlockReceipts"], proxy.counts["eth_getTransactionReceipt"]) == (1, 0)
    assert proxy.http_requests - before <= 6


def test_single_receipts_where_blocks_of_them_are_not_served(proxy: FaultProxy, anvil: Anvil) -> None:
    """The node is asked once for what it does not have."""
    proxy.do_not_serve("eth_getBlockReceipts")
    write(60)
    settle()
    for _ in range(2):
        anvil.mine()
        settle_and_complete()
    assert confirmed() == 60
    assert proxy.counts["eth_getBlockReceipts"] == 1


def test_next_to_nothing_when_idle(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing on its way no node is asked, but for a look at the newest final block now and then."""
    use(blockchain_reorg_watch_blocks=0)
    write(1)
    for _ in range(3):
        anvil.mine()
        settle_and_complete()
    assert confirmed() == 1
    before = proxy.http_requests
    for _ in range(20):
        settle()
    assert proxy.http_requests == before
    monkeypatch.setattr(sweep, "IDLE_LOOK_SECONDS", 0.0)
    settle()
    assert 0 < proxy.http_requests - before <= 3


def test_who_writes_is_told_when_there_is_nothing_to_ask(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room may be there since a sweep that told nobody, as its writer was to go on, and is gone."""
    told: list[str] = []
    monkeypatch.setattr(sweep.messages, "write", lambda lane, **_: told.append(lane))
    use(blockchain_reorg_watch_blocks=0)
    write(1)
    for _ in range(3):
        anvil.mine()
        settle_and_complete()
    queue_documents(1, start=1)
    verification.verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])
    told.clear()
    before = proxy.http_requests
    settle(by_writer=True)
    assert told == []
    settle()
    assert told == ["normal"]
    assert proxy.http_requests == before


def test_no_new_block_costs_one_request(proxy: FaultProxy) -> None:
    """What waits for a block is not asked for again and again."""
    write(40)
    settle()
    before = proxy.http_requests
    settle()
    assert proxy.http_requests - before == 1


def test_a_node_that_lags_makes_nothing_dropped(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nonce is used, says one; no receipt, says the other: nothing is lost, and nothing unconfirmed."""
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    write(3)
    proxy.freeze(1)
    anvil.mine()
    proxy.alternate = True
    deadline = time.monotonic() + 30
    states: set[str] = set()
    chance = random.Random(5)
    while confirmed() < 3 and time.monotonic() < deadline:
        settle_and_complete()
        if chance.random() < 0.5:
            chain_client().head()  # others ask too: not always the same node gets the same question
        states |= {row.state for row in Write.select(Write.state)}
    assert confirmed() == 3
    for _ in range(6):
        settle_and_complete()
        assert confirmed() == 3
    assert states <= {State.VERIFIED, State.CONFIRMED}
    assert Transaction.select().where(Transaction.lost_at.is_null(False)).count() == 0
    assert_truthful(anvil, chain_settings())


def test_anchored_already_by_an_earlier_transaction_of_ours(proxy: FaultProxy, anvil: Anvil) -> None:
    """The root is on the chain, whatever a second transaction says: confirmed under the first one's hash."""
    write(1)
    first = Transaction.get()
    anvil.mine()
    # As if its nonce had been taken for lost, and the batch written anew.
    Transaction.update(lost_at=time.time()).execute()
    nonces.write_again(first.batch_id, reason="test")
    second = write_with_gas(100_000, first.batch_id)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert Batch.get().transaction_hash == first.hash
    assert Transaction.get_by_id(second.id).state == TransactionState.REVERTED


def test_killed_when_it_is_known_to_be_anchored(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later sweep would look at a batch of which nothing waits for a block: both steps, or neither."""
    write(1)
    first = Transaction.get()
    anvil.mine()
    Transaction.update(lost_at=time.time()).execute()
    nonces.write_again(first.batch_id, reason="test")
    write_with_gas(100_000, first.batch_id)
    anvil.mine()

    def killed(_: int) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(transactions, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            settle()
    settle_and_complete()
    assert confirmed() == 1


def test_what_one_receipt_can_not_tell(proxy: FaultProxy, anvil: Anvil) -> None:
    """An error in its place holds up that one alone."""
    write(3)
    settle()
    last = Transaction.select().order_by(Transaction.nonce.desc()).first().hash
    proxy.answer_error(
        "eth_getTransactionReceipt", "transaction indexing is in progress", None, when=lambda p: p[0] == last
    )
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 2


def test_an_old_block_that_no_node_has_any_more(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """The newest final batch's history was pruned (EIP-4444): new ones are settled all the same."""
    use(blockchain_reorg_watch_blocks=1)
    write(1)
    for _ in range(4):
        anvil.mine()
        settle_and_complete()
    old = Batch.get()
    assert old.final_at is not None
    proxy.answer_error(
        "eth_getBlockByNumber",
        "pruned history unavailable",
        None,
        code=4444,
        when=lambda p: p[0] == hex(old.block_number),
    )
    anvil.mine(50)
    write(1, start=1)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 2


def use_nonces(anvil: Anvil) -> None:
    """Somebody else with the key uses the nonces of all that is stored."""
    other = ChainClient(Settings(**{**chain_settings(), "blockchain_rpc_url": anvil.rpc_url}))
    for stored in Transaction.select():
        fees = Fees(int(stored.max_fee_wei) * 2, int(stored.tip_wei) * 2)
        anvil.rpc("eth_sendRawTransaction", "0x" + other.prepare_filler(stored.nonce, fees).raw.hex())
    anvil.mine()


def test_somebody_uses_ten_nonces(proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cause, one alert; all are written at new nonces."""
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    write(10)
    settle()
    use_nonces(anvil)
    for _ in range(3):
        settle()
        anvil.mine()
    [incident] = Incident.select()
    assert (incident.kind, incident.level) == ("NonceConflict", "fatal")
    write(0)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 10
    assert_truthful(anvil, chain_settings())


def test_somebody_uses_the_key_deeper_than_the_node_keeps_states(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 200 confirmations, and a full node that keeps the states of 128 blocks."""
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    use(blockchain_confirmations=200)
    write(1)
    settle()
    use_nonces(anvil)
    proxy.answer_error(
        "eth_getTransactionCount", "missing trie node", None, when=lambda p: p[1].startswith("0x")
    )
    settle()
    settle()
    assert Incident.select().count() == 0
    anvil.mine(200)
    settle()
    assert [incident.kind for incident in Incident.select()] == ["NonceConflict"]


def test_somebody_uses_the_key_while_nothing_is_in_flight(proxy: FaultProxy, anvil: Anvil) -> None:
    """The nonce after it is taken, and operators are told."""
    anvil.rpc("evm_setAutomine", True)
    write(1)
    settle_and_complete()
    other = ChainClient(Settings(**{**chain_settings(), "blockchain_rpc_url": anvil.rpc_url}))
    nonce = other.transaction_counts()[1]
    anvil.rpc("eth_sendRawTransaction", "0x" + other.prepare_filler(nonce, other.fees()).raw.hex())
    write(1, start=1)
    settle_and_complete()
    assert confirmed() == 2
    [incident] = Incident.select()
    assert (incident.kind, incident.level) == ("NonceConflict", "fatal")
    assert f"nonces {nonce} to {nonce}" in incident.message


def test_deploying_while_something_is_in_flight(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a nonce of the ledger: neither takes the other's place, and nobody else has the key."""
    monkeypatch.setattr(outcomes, "MISSING_SECONDS", 0.0)
    write(1)
    settle()
    variables = {**chain_settings(), "blockchain_rpc_url": anvil.rpc_url}
    del variables["blockchain_contract_address"]
    deployer = ChainClient(Settings(**variables))
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(deployer.deploy, 30, choose_nonce=nonces.reserve)
        until(lambda: anvil.pool_size == 2, seconds=20, what="both in the pool")
        write(1, start=1)
        anvil.mine()
        for _ in range(3):
            settle_and_complete()
            anvil.mine()
        assert deploying.result(timeout=30).contract_address
    assert confirmed() == 2
    assert Incident.select().count() == 0


def test_a_node_that_is_away_for_long(
    proxy: FaultProxy, anvil: Anvil, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status says so at once; operators are told when it takes long, and no more once it is over."""
    write(1)
    settle()
    proxy.down = True
    with pytest.raises(NodeUnreachable):
        settle()
    assert client.get_blockchain_write_status("c0")["reason"] == "node unreachable"
    assert ledger.not_alerted() == []
    Incident.update(alert_due_at=0).execute()
    [due] = ledger.not_alerted()
    assert due.kind == "NodeUnreachable"
    proxy.down = False
    settle()
    assert client.get_blockchain_write_status("c0")["reason"] == "waiting for a block"
    assert ledger.under_way() == []
    assert ledger.not_alerted() == []


def test_a_revert_is_final_before_anything_fails(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """Out of gas: pending as long as a reorg could still let it succeed, then failed, with a dead letter."""
    use(blockchain_reorg_watch_blocks=5)
    queue_documents(1)
    verification.verify([row.id for row in Write.select(Write.id)])
    chain = chain_client()
    chains.remember(chain.chain_id, chain.genesis_hash())
    write_with_gas(25_000, Batch.get().id)
    for _ in range(5):
        anvil.mine()
        settle()
        assert Write.get().batch.state == BatchState.SUBMITTED
    anvil.mine()
    settle()
    write_ = Write.get()
    assert (write_.state, write_.error_code, write_.attempts) == (State.FAILED, "TransactionReverted", 1)
    assert_truthful(anvil, chain_settings())


def write_with_gas(gas_limit: int, batch_id: int) -> Transaction:
    """Send a batch with so much gas: the guards' estimate knows better."""
    chain = chain_client()
    chain.check_guards()
    stored = batches.submit(
        batch_id,
        Account(chain.chain_id, chain.signer_address, chain.contract_address),
        nonce_floor=chain.transaction_counts()[0],
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, chain.fees(), gas_limit=gas_limit),
    )
    assert stored is not None
    assert chain.send(bytes.fromhex(stored.raw_transaction[2:])).taken
    return stored


def test_a_chain_without_base_fee(
    use: Callable[..., None],
    start_anvil: Callable[..., Anvil],
    start_fault_proxy: Callable[..., FaultProxy],
    client: Any,
) -> None:
    """Gas prices instead, in the first transaction and in its replacement."""
    anvil = start_anvil(more=["--hardfork", "berlin"])
    proxy = start_fault_proxy(anvil.rpc_url, strict_replacements=True)
    use(**chain_variables(anvil, rpc_url=proxy.url), batch_max_size=1)
    anvil.stop_mining()
    write(1)
    proxy.answer_error("eth_sendRawTransaction", "transaction underpriced")
    Transaction.update(state=TransactionState.SIGNED, sent_at=0).execute()
    settle()
    original, replacement = Transaction.select().order_by(Transaction.id)
    assert original.raw_transaction[:4] > "0xc0"
    assert replacement.raw_transaction[:4] > "0xc0"
    assert int(replacement.max_fee_wei) * 8 >= int(original.max_fee_wei) * 9
    anvil.mine()
    settle_and_complete()
    assert Batch.get().transaction_hash == replacement.hash


def test_finalized(use: Callable[..., None], start_anvil: Callable[..., Anvil], client: Any) -> None:
    """Confirmed once the node calls the block final, and not before."""
    anvil = start_anvil(slots_in_an_epoch=2)
    use(**chain_variables(anvil), blockchain_confirmations="finalized")
    write(1)
    settle_and_complete()
    assert confirmed() == 0
    found = ChainClient(get_settings())
    while (found.heads().finalized or 0) < int(Batch.get().block_number or 0):
        anvil.mine()
        settle_and_complete()
    settle_and_complete()
    assert confirmed() == 1

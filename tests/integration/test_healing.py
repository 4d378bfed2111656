"""Promise: what no node has any more goes out again, and what nobody can mend is told, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.ledger import incidents as ledger
from pipeline.models import Batch, Chain, Incident, Transaction
from pipeline.settlement import healing, pace, settle, sweep, view
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete, write
from tests.truth import assert_truthful

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

GWEI = 10**9


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """What this process has seen of another test's chain."""
    healing._gaps.clear()
    healing._lowest.clear()


def open_incidents(kind: str) -> frozenset[str]:
    """What the incidents of that kind are about that are not over."""
    return ledger.subjects_of(kind)


# --- a head below what was seen ------------------------------------------------------------------


@pytest.fixture
def fallen(proxy: FaultProxy, anvil: Anvil) -> Callable[[], None]:
    """Confirm a write, and let the node go on from the state before it."""
    snapshot = anvil.rpc("evm_snapshot")
    write(1)
    settle()
    anvil.mine(2)
    settle_and_complete()
    assert confirmed() == 1

    def fall() -> None:
        anvil.rpc("evm_revert", snapshot)
        assert anvil.block_number < int(Batch.get().block_number)

    return fall


def long_ago() -> None:
    """As if the head had been lower for long enough."""
    Chain.update(lower_since=time.time() - view.LOWER_SECONDS - 1).execute()


def test_a_head_that_fell_takes_confirmed_blocks_away(fallen: Callable[[], None], anvil: Anvil) -> None:
    """A node restarted from an older state, on a chain without traffic: no block will tell of it."""
    fallen()
    settle_and_complete()
    assert confirmed() == 1, "a node may lag: not at once"
    assert anvil.pool_size == 0
    long_ago()
    settle_and_complete()
    assert confirmed() == 0
    settle()
    assert anvil.pool_size == 1, "the same bytes"
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert Transaction.select().count() == 1
    assert Chain.get().lower_since is None
    assert_truthful(anvil, chain_settings())


def test_a_head_below_a_final_block_tells_nothing_of_it(
    fallen: Callable[[], None],
    anvil: Anvil,
    use: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is final is called removed only when another block is in its place: then it is written again."""
    monkeypatch.setattr(sweep, "IDLE_LOOK_SECONDS", 0.0)
    use(blockchain_reorg_watch_blocks=1)
    settle_and_complete()
    anvil.mine()
    settle_and_complete()
    assert Batch.get().final_at is not None
    fallen()
    settle()
    long_ago()
    settle()
    assert confirmed() == 1
    assert Incident.select().count() == 0
    anvil.mine(5)
    settle()
    settle()
    [incident] = Incident.select()
    assert (incident.kind, incident.level) == ("FinalBlockRemoved", "fatal")
    assert anvil.pool_size == 1
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1


@pytest.mark.parametrize("syncing", [False, True])
def test_a_node_that_lags_takes_nothing_away(
    fallen: Callable[[], None], proxy: FaultProxy, anvil: Anvil, syncing: bool
) -> None:
    """One whose head rises, or that says that it is catching up, and one that shows its head again."""
    place = int(Batch.get().block_number)
    if syncing:
        proxy.answer_result("eth_syncing", {"currentBlock": "0x1", "highestBlock": "0x9"}, None)
    for height in (place - 1, place - 1) if syncing else range(place):
        proxy.freeze(0, height)
        settle()
        long_ago()
    assert confirmed() == 1
    proxy.thaw(0)
    settle()
    assert Chain.get().lower_since is None
    assert confirmed() == 1


# --- an earlier key ------------------------------------------------------------------------------


def change_key(use: Callable[..., None], anvil: Anvil) -> None:
    """The workers sign with another key from now on."""
    use(blockchain_private_key=anvil.accounts[2].private_key)


def test_an_earlier_key_that_would_have_to_pay_more(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """Nobody can sign for it: its owner is told, once, and no more when it is mined after all."""
    use(blockchain_max_fee_gwei=500)
    write(1)
    settle()
    change_key(use, anvil)
    proxy.answer_error("eth_sendRawTransaction", "max fee per gas less than block base fee")
    Transaction.update(sent_at=0).execute()
    settle()
    assert len(open_incidents("UntakenTransaction")) == 1
    assert "an earlier one" in Incident.get().message
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert Incident.select().count() == 1
    assert not open_incidents("UntakenTransaction")


def test_an_earlier_key_with_a_gap(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its owner can fill it, and is told so."""
    monkeypatch.setattr(healing, "GAP_SECONDS", 0.0)
    write(2)
    settle()
    first = Transaction.select().order_by(Transaction.nonce).first()
    anvil.rpc("anvil_dropTransaction", first.hash)
    Transaction.delete().where(Transaction.id == first.id).execute()
    change_key(use, anvil)
    settle()
    settle()
    assert len(open_incidents("UntakenTransaction")) == 1
    assert Transaction.select().count() == 1


# --- what no node takes --------------------------------------------------------------------------


def test_a_refusal_is_over_once_the_nonce_is_used(proxy: FaultProxy, anvil: Anvil) -> None:
    """The incident of a rejected transaction does not stay open for ever."""
    proxy.answer_error("eth_sendRawTransaction", "exceeds block gas limit")
    write(1)
    assert len(open_incidents("NodeRejected")) == 1
    Transaction.update(created_at=0, sent_at=0).execute()
    settle()
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert not open_incidents("NodeRejected")


@pytest.mark.parametrize("answer", ["txpool is full", None])
def test_the_lowest_nonce_is_not_mined_for_long(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """A full pool, or a chain that stands still, is waited for; not in silence when it takes too long."""
    if answer is not None:
        refused = proxy.answer_error("eth_sendRawTransaction", answer, None)
    write(2)
    settle()
    settle()
    assert Incident.select().count() == 0
    monkeypatch.setattr(healing, "STANDSTILL_SECONDS", 0.0)
    settle()
    settle()
    [incident] = Incident.select()
    assert incident.kind == "UntakenTransaction"
    assert (answer or "accepted") in incident.message
    if answer is not None:
        refused.end()
    Transaction.update(created_at=0, sent_at=0).execute()
    settle()
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 2
    assert not open_incidents("UntakenTransaction")


def test_a_replacement_that_is_still_too_cheap(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """A node that wants more than an eighth gets more, blocks later, up to the ceiling, which is told."""
    use(blockchain_max_fee_gwei=4)
    write(1)
    settle()
    original = Transaction.get()
    proxy.answer_error(
        "eth_sendRawTransaction", "already known", None, when=lambda p: p[0] == original.raw_transaction
    )
    proxy.answer_error(
        "eth_sendRawTransaction",
        "replacement transaction underpriced",
        None,
        when=lambda p: p[0] != original.raw_transaction,
    )
    proxy.answer_result("eth_getTransactionByHash", {"hash": original.hash}, None)
    anvil.rpc("anvil_dropTransaction", original.hash)
    for _ in range(healing.STUCK_BLOCKS * 8):
        anvil.mine()
        Transaction.update(sent_at=0).execute()
        settle()
    fees = [int(row.max_fee_wei) for row in Transaction.select().order_by(Transaction.id)]
    assert len(fees) > 2
    assert all(later * 8 >= earlier * 9 for earlier, later in pairwise(fees))
    assert fees[-1] <= 4 * GWEI
    assert len(open_incidents("StuckTransaction")) == 1


def test_a_nonce_whose_turn_has_just_come(proxy: FaultProxy, anvil: Anvil) -> None:
    """Blocks that were for those before it do not count: it is not made dearer."""
    write(6)
    settle()
    anvil.rpc("evm_setBlockGasLimit", hex(int(Transaction.get().gas_limit) * 3 // 2))
    for number in range(1, 7):
        anvil.mine()
        settle_and_complete()
        assert confirmed() == number, "one in each block"
    assert Transaction.select().count() == 6


def leave_out(anvil: Anvil, row: Transaction) -> None:
    """Let the node wait with that one for the nonce before, which is used.

    Which anvil does by itself when it is handed one while it mines the one before.
    """
    anvil.rpc("anvil_dropTransaction", row.hash)
    anvil.rpc("anvil_setNonce", row.signer, hex(row.nonce - 1))
    anvil.rpc("eth_sendRawTransaction", row.raw_transaction)
    anvil.rpc("anvil_setNonce", row.signer, hex(row.nonce))


def test_a_nonce_that_the_node_has_and_leaves_out(
    proxy: FaultProxy, anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To send it again does not help: it is replaced, once, when a block should have come long since."""
    proxy.answer_result("web3_clientVersion", "geth/v1.16.7", None)
    monkeypatch.setattr(pace, "_block_seconds", 0.2)
    monkeypatch.setattr(pace, "_is_known", True)
    write(2)
    original = Transaction.select().order_by(Transaction.nonce).first()
    leave_out(anvil, original)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 0
    Transaction.update(sent_at=0).execute()
    settle()
    assert Transaction.get_by_id(original.id).answer.startswith("already_known")
    settle()
    assert Transaction.select().count() == 2, "a block may be on its way"
    since = healing._lowest[original.signer][1]
    healing._lowest[original.signer] = (
        original.nonce,
        since - healing.FIRST_BLOCK_SECONDS,
        anvil.block_number,
    )
    settle()
    replacement = (
        Transaction.select().where(Transaction.nonce == original.nonce).order_by(-Transaction.id).get()
    )
    assert int(replacement.max_fee_wei) * 8 >= int(original.max_fee_wei) * 9
    settle()
    assert Transaction.select().count() == 3, "once"
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 2
    assert Incident.select().count() == 0
    assert_truthful(anvil, chain_settings())


@pytest.mark.parametrize(
    ("node", "is_known", "block_seconds", "patience_seconds"),
    [
        ("geth/v1.16.7", False, 2.0, 36.0),
        ("geth/v1.16.7", True, 2.0, 6.0),
        ("geth/v1.16.7", True, 0.5, 3.0),
        ("geth/v1.16.7", True, 0.01, 0.3),
        ("geth/v1.16.7", True, 3600.0, 60.0),
        (None, True, 3600.0, 60.0),
        ("anvil/v1.7.1", False, 2.0, 0.3),
        ("anvil/v1.7.1", True, 3600.0, 0.3),
    ],
    ids=[
        "unknown",
        "two seconds",
        "fast",
        "on demand",
        "idle for an hour",
        "says not what it is",
        "anvil, unknown",
        "anvil, idle for an hour",
    ],
)
def test_how_long_a_block_is_waited_for(
    proxy: FaultProxy,
    anvil: Anvil,
    monkeypatch: pytest.MonkeyPatch,
    node: str | None,
    is_known: bool,
    block_seconds: float,
    patience_seconds: float,
) -> None:
    """The time of three, as far as it is known; but for anvil, which is known to leave them out."""
    if node is None:
        proxy.answer_error("web3_clientVersion", "the method web3_clientVersion is not available", None)
    else:
        proxy.answer_result("web3_clientVersion", node, None)
    write(1)
    original = Transaction.get()
    leave_out(anvil, original)
    settle()
    Transaction.update(sent_at=0).execute()
    settle()
    monkeypatch.setattr(pace, "_is_known", is_known)
    monkeypatch.setattr(pace, "_block_seconds", block_seconds)
    monkeypatch.setattr(pace, "saw", lambda head: None)
    for seconds, transactions in ((patience_seconds - 0.2, 1), (patience_seconds + 0.2, 2)):
        since = time.monotonic() - seconds
        healing._lowest[original.signer] = (original.nonce, since, anvil.block_number)
        settle()
        assert Transaction.select().count() == transactions, seconds

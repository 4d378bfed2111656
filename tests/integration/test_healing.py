"""Promise: what no node has any more goes out again, and what nobody can mend is told, once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pipeline.chain.client import chain_client
from pipeline.ledger import incidents as ledger
from pipeline.models import Batch, Chain, Incident, Transaction
from pipeline.settlement import healing, settle, sweep, view
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import chain_settings, confirmed, settle_and_complete, write
from tests.truth import assert_truthful

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

GWEI = 10**9


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


def test_a_head_that_fell_below_a_final_block(
    fallen: Callable[[], None],
    anvil: Anvil,
    use: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told as the removal of a final block, and written again."""
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
    settle()
    [incident] = Incident.select()
    assert (incident.kind, incident.level) == ("FinalBlockRemoved", "fatal")
    assert anvil.pool_size == 1
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1


def test_a_node_that_lags_now_and_then_takes_nothing_away(
    fallen: Callable[[], None], proxy: FaultProxy, anvil: Anvil
) -> None:
    """A head that is there again begins the time anew."""
    proxy.freeze(0, int(Batch.get().block_number) - 1)
    settle()
    first = Chain.get().lower_since
    assert first is not None
    settle()
    assert Chain.get().lower_since == first
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


def test_bytes_that_no_node_takes_for_long(proxy: FaultProxy, anvil: Anvil) -> None:
    """A full pool is waited for; not in silence when it takes too long."""
    proxy.answer_error("eth_sendRawTransaction", "txpool is full")
    write(1)
    Transaction.update(sent_at=0).execute()
    proxy.answer_error("eth_sendRawTransaction", "txpool is full")
    settle()
    assert not open_incidents("UntakenTransaction")
    Transaction.update(sent_at=0, created_at=time.time() - healing.UNTAKEN_SECONDS - 1).execute()
    proxy.answer_error("eth_sendRawTransaction", "txpool is full")
    settle()
    [incident] = Incident.select()
    assert "no node takes it: unknown: txpool is full" in incident.message
    Transaction.update(sent_at=0).execute()
    settle()
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert not open_incidents("UntakenTransaction")


# --- wallets -------------------------------------------------------------------------------------


def test_each_empty_wallet_is_an_incident_of_its_own(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """After a change of the key the next one is told of, and the one before is over."""
    anvil.rpc("evm_setAutomine", True)
    use(blockchain_private_key=anvil.accounts[0].private_key)
    anvil.rpc("anvil_setBalance", anvil.address, "0x0")
    write(1)
    assert open_incidents("InsufficientFunds") == {f"{anvil.chain_id}:{anvil.address}"}
    empty = chain_of_second(use, anvil)
    anvil.rpc("anvil_setBalance", empty, "0x0")
    settle()
    assert open_incidents("InsufficientFunds") | open_incidents("NotAnIssuer") == {
        f"{anvil.chain_id}:{empty}"
    }
    assert Incident.select().count() == 2


def chain_of_second(use: Callable[..., None], anvil: Anvil) -> str:
    """Sign with the second account's key; its address."""
    use(blockchain_private_key=anvil.accounts[1].private_key)
    return chain_client().signer_address

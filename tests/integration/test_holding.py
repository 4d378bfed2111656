"""Promise: chain writing waits as long as something is against it, for whoever that is, and says so once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline import holding
from pipeline.chain.client import chain_client
from pipeline.errors import InsufficientFunds
from pipeline.ledger import incidents as ledger
from pipeline.models import Incident, Transaction
from pipeline.settlement import settle
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import confirmed, settle_and_complete, write

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def open_incidents(kind: str) -> frozenset[str]:
    """What the incidents of that kind are about that are not over."""
    return ledger.subjects_of(kind)


def test_an_answer_of_a_moment_ago_ends_no_hold(proxy: FaultProxy, anvil: Anvil) -> None:
    """The node says that the wallet is empty, just after the guards had found it full."""
    write(2, start=10)
    proxy.answer_error("eth_sendRawTransaction", "insufficient funds for gas * price + value: balance 0")
    write(1)
    anvil.rpc("anvil_setBalance", anvil.address, "0x0")
    settle()
    assert ledger.holding() is not None
    anvil.rpc("anvil_setBalance", anvil.address, hex(10**20))
    settle()
    assert ledger.holding() is None
    assert Incident.select().count() == 1


def test_a_guard_that_can_not_be_asked_stops_no_settling(proxy: FaultProxy, anvil: Anvil) -> None:
    """Writing is held, and the node can not say whether it may go on: what is mined is confirmed."""
    write(1)
    settle()
    holding.hold(InsufficientFunds("test"), signer=chain_client().signer_address)
    chain_client.cache_clear()
    proxy.answer_error("eth_estimateGas", "header not found", None)
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 1
    assert ledger.holding() is not None


def test_finality_that_the_node_does_not_serve(
    proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]
) -> None:
    """Nothing would ever be confirmed: nothing is signed, and the message says why."""
    use(blockchain_confirmations="finalized")
    unserved = proxy.answer_error(
        "eth_getBlockByNumber", "finalized block not found", None, when=lambda p: p[0] == "finalized"
    )
    write(1)
    assert Transaction.select().count() == 0
    [incident] = Incident.select()
    assert incident.kind == "SettingsError"
    assert "BLOCKCHAIN_CONFIRMATIONS is finalized" in incident.message
    unserved.end()
    settle()
    assert ledger.holding() is None


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

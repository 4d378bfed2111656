"""Promise: nothing is signed on a chain that began anew, without the role, or with less money than what is
under way may cost; and no answer of one node is believed of another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.chain.client import ChainClient
from pipeline.chain.registry import encode
from pipeline.errors import ChainError, ChainReset, InsufficientFunds, NoContract, NotAnIssuer, WrongChain
from tests.chain import AnyServer, new_client, registered
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy

OTHER_CHAIN = "0x" + "11" * 32


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before the test's anvil."""
    return start_fault_proxy(anvil.rpc_url)


@pytest.fixture
def client(anvil: Anvil, proxy: FaultProxy) -> ChainClient:
    """A client that knows only the proxy, and has checked its guards; it has asked for fees, too."""
    contract = registered(anvil).contract_address
    client = new_client(anvil, blockchain_rpc_url=proxy.url, blockchain_contract_address=contract)
    # The second time on the connection that the first one made.
    client.check_guards()
    client.check_guards()
    return client


def remove_role(anvil: Anvil, client: ChainClient) -> None:
    """In a block of its own."""
    data = "0x" + encode("removeIssuer", anvil.address).hex()
    anvil.rpc("eth_sendTransaction", {"from": anvil.address, "to": client.contract_address, "data": data})


def test_the_chain_that_was_written_to(server: AnyServer) -> None:
    """It is known by its first block."""
    client = registered(server)
    client.check_guards(genesis_hash=client.genesis_hash())
    client.check_guards(genesis_hash=client.genesis_hash(), fresh=True)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_chain_that_began_anew(anvil: Anvil, fresh: bool) -> None:
    """Another first block under the same chain id: both hashes are told, and what to do."""
    client = registered(anvil)
    found = client.genesis_hash()
    if fresh:
        client.check_guards()
    with pytest.raises(ChainReset, match="wiped") as caught:
        client.check_guards(genesis_hash=OTHER_CHAIN, fresh=fresh)
    assert isinstance(caught.value, WrongChain)
    for part in (OTHER_CHAIN, found, "use a new database"):
        assert part in caught.value.message


def test_a_wiped_chain_comes_before_its_missing_contract(anvil: Anvil) -> None:
    """A wiped chain has no registry either: the cause is told, not the consequence."""
    client = new_client(anvil, blockchain_contract_address="0x" + "ab" * 20)
    with pytest.raises(ChainReset):
        client.check_guards(genesis_hash=OTHER_CHAIN)


def test_a_node_without_its_first_block(proxy: FaultProxy, client: ChainClient) -> None:
    """It can not be told which chain that is: an error that passes; no matter where nothing is known."""
    genesis_hash = client.genesis_hash()
    proxy.answer_result("eth_getBlockByNumber", None, None, when=lambda params: params[0] == "0x0")
    client.check_guards(fresh=True)
    with pytest.raises(ChainError, match="first block"):
        client.check_guards(fresh=True, genesis_hash=genesis_hash)


def test_all_guards_are_one_request(proxy: FaultProxy, client: ChainClient) -> None:
    """Not one within 10 s; with ``fresh`` one, without the costly estimate."""
    proxy.counts.clear()
    before = proxy.http_requests
    client.check_guards()
    assert proxy.http_requests == before
    client.fees()
    before = proxy.http_requests
    client.check_guards(fresh=True)
    assert proxy.http_requests == before + 1
    assert proxy.counts["eth_estimateGas"] == 0


def test_a_role_that_was_taken_a_moment_ago(anvil: Anvil, client: ChainClient) -> None:
    """Only a fresh look sees it, and from then on each."""
    remove_role(anvil, client)
    client.check_guards()
    for fresh in (True, False):
        with pytest.raises(NotAnIssuer):
            client.check_guards(fresh=fresh)


def test_money_that_is_gone_a_moment_ago(anvil: Anvil, client: ChainClient) -> None:
    """The same."""
    anvil.rpc("anvil_setBalance", anvil.address, "0x1")
    client.check_guards()
    with pytest.raises(InsufficientFunds):
        client.check_guards(fresh=True)


@pytest.mark.parametrize("missing_wei", [0, 1])
def test_what_is_under_way_is_reserved(anvil: Anvil, client: ChainClient, missing_wei: int) -> None:
    """The balance has to cover one more anchor besides; to the wei."""
    anchor = client.prepare_anchor(b"\x01" * 32, 1, client.fees())
    reserved_wei = 10**15
    enough_wei = reserved_wei + anchor.gas_limit * client.fees().max_fee_wei
    anvil.rpc("anvil_setBalance", anvil.address, hex(enough_wei - missing_wei))
    client.check_guards(fresh=True)
    if missing_wei == 0:
        client.check_guards(fresh=True, reserved_wei=reserved_wei)
        return
    with pytest.raises(InsufficientFunds, match=r"besides 0\.001 for what is sent"):
        client.check_guards(fresh=True, reserved_wei=reserved_wei)


def test_a_fresh_look_at_another_node_is_a_whole_one(
    anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Whoever answers in its place has to have the registry, too."""
    first, second = start_fault_proxy(anvil.rpc_url), start_fault_proxy(anvil.rpc_url)
    contract = registered(anvil).contract_address
    urls = f"{first.url},{second.url}"
    client = new_client(anvil, blockchain_rpc_url=urls, blockchain_contract_address=contract)
    client.check_guards()
    client.check_guards()
    version = "0x" + encode("version").hex()
    second.answer_result("eth_call", "0x", when=lambda params: params[0]["data"] == version)
    first.down = True
    with pytest.raises(NoContract):
        client.check_guards(fresh=True)

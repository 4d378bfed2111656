"""Promise: the contract finds exactly the credentials that are in an anchored tree, whoever asks, and
anchoring them costs next to nothing each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils import keccak, to_checksum_address
from vyper import compile_code

from pipeline.chain.blocks import Receipt, quantity
from pipeline.chain.client import ChainClient
from pipeline.chain.registry import encode as calldata
from pipeline.embedded.evm import EvmServer
from pipeline.merkle import MerkleTree, leaf_hash
from pipeline.settings import Settings
from tests.servers.anvil import Anvil
from tests.waiting import until

CID = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


@dataclass(frozen=True)
class Credential:
    """What a leaf is made of."""

    credential_id: str
    ipfs_cid: str = CID
    data_hash: bytes = field(default_factory=lambda: os.urandom(32))
    salt: bytes = field(default_factory=lambda: os.urandom(32))

    @property
    def leaf(self) -> bytes:
        """As the pipeline computes it."""
        return leaf_hash(self.credential_id, self.data_hash, self.ipfs_cid, self.salt)


def new_client(server: Anvil | EvmServer, **more: Any) -> ChainClient:
    """A client of the server's funded account."""
    return ChainClient(
        Settings(
            blockchain_rpc_url=server.rpc_url,
            blockchain_chain_id=server.chain_id,
            blockchain_private_key=server.private_key,
            **more,
        )
    )


@pytest.fixture(params=["anvil", "evm_server"])
def client(request: pytest.FixtureRequest) -> ChainClient:
    """A client with a fresh registry, on anvil and on the embedded node."""
    server: Anvil | EvmServer = request.getfixturevalue(request.param)
    address = new_client(server).deploy().contract_address
    return new_client(server, blockchain_contract_address=address)


@pytest.fixture
def anvil_client(anvil: Anvil) -> ChainClient:
    """A client with a fresh registry on anvil."""
    return new_client(anvil, blockchain_contract_address=new_client(anvil).deploy().contract_address)


def anchor(client: ChainClient, root: bytes) -> Receipt:
    """Anchor a root and wait for its receipt."""
    client.check_guards()
    transaction = client.prepare_anchor(root, client.transaction_counts()[1], client.fees())
    answer = client.send(transaction.raw)
    assert answer.taken, answer
    receipt = None
    while receipt is None:  # the test's time-out ends it
        receipt = client.receipts([transaction.hash])[transaction.hash]
    assert receipt.status == 1
    return receipt


def credentials(count: int) -> list[Credential]:
    """Some with and some without CID, with ids of all kinds of characters."""
    return [Credential(f"diploma-ü-学位-{number}", CID if number % 3 else "") for number in range(count)]


def verify(client: ChainClient, root: bytes, credential: Credential, proof: list[bytes]) -> bool:
    """What the contract says of the credential's values."""
    return client.registry.verify_credential(
        root, credential.credential_id, credential.data_hash, credential.ipfs_cid, credential.salt, proof
    )


def view(client: ChainClient, name: str, *values: Any) -> Any:
    """What a view of the registry returns."""
    return client.registry.decode(name, client.rpc.batch([client.registry.request(name, *values)])[0])[0]


def altered(credential: Credential) -> Iterator[Credential]:
    """The credential with one value changed, each in turn."""
    yield dataclasses.replace(credential, credential_id=credential.credential_id + "x")
    yield dataclasses.replace(credential, ipfs_cid="" if credential.ipfs_cid else CID)
    yield dataclasses.replace(credential, data_hash=os.urandom(32))
    yield dataclasses.replace(credential, salt=os.urandom(32))


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_credentials_in_a_tree(client: ChainClient, count: int) -> None:
    """Each is found once the root is anchored, by its values and by its leaf; changed ones are not."""
    batch = credentials(count)
    tree = MerkleTree(credential.leaf for credential in batch)
    samples = {0, count // 2, count - 1}
    first = batch[0]
    assert not verify(client, tree.root, first, tree.proof(first.leaf))
    anchor(client, tree.root)
    for credential in (batch[number] for number in samples):
        proof = tree.proof(credential.leaf)
        assert verify(client, tree.root, credential, proof)
        assert view(client, "verify", tree.root, credential.leaf, proof)
        for wrong in altered(credential):
            assert not verify(client, tree.root, wrong, proof)
    assert not verify(client, tree.root, Credential("another"), tree.proof(first.leaf))


def test_inner_nodes_are_refused(anvil_client: ChainClient) -> None:
    """A proof that starts higher up leads to the root, but no credential's values to its start."""
    batch = credentials(16)
    tree = MerkleTree(credential.leaf for credential in batch)
    anchor(anvil_client, tree.root)
    credential = batch[5]
    proof = tree.proof(credential.leaf)
    assert len(proof) == 4
    for skipped in range(1, len(proof) + 1):
        assert not verify(anvil_client, tree.root, credential, proof[skipped:])
    children = min(tree.nodes[1:3]) + max(tree.nodes[1:3])
    assert keccak(children) == tree.root
    # The two children of the root as the values of a leaf: hashed twice, they do not give the root.
    forged = Credential("", "", data_hash=children[:32], salt=children[32:])
    assert not verify(anvil_client, tree.root, forged, [])


def test_longest_values(client: ChainClient) -> None:
    """255 characters of four bytes each, the longest CID that intake takes, and more than that."""
    longest = Credential("\N{GRADUATION CAP}" * 255, "b" * 160)
    anchor(client, longest.leaf)
    assert verify(client, longest.leaf, longest, [])
    assert not verify(client, longest.leaf, dataclasses.replace(longest, ipfs_cid="b" * 1024), [])


def test_a_proof_has_32_parts_at_most(anvil_client: ChainClient) -> None:
    """That is a tree of 4 billion leaves; a longer one is refused, not computed."""
    node = leaf = os.urandom(32)
    proof = []
    for _ in range(32):
        proof.append(os.urandom(32))
        node = keccak(min(node, proof[-1]) + max(node, proof[-1]))
    anchor(anvil_client, node)
    assert view(anvil_client, "verify", node, leaf, proof)
    (too_long,) = anvil_client.rpc.batch(
        [anvil_client.registry.request("verify", node, leaf, [*proof, os.urandom(32)])]
    )
    assert isinstance(too_long, Exception)


CONSUMER = """
interface Registry:
    def isAnchored(root: bytes32) -> bool: view
    def verify(root: bytes32, leaf: bytes32, proof: DynArray[bytes32, 32]) -> bool: view
    def verifyCredential(root: bytes32, id: String[100], dataHash: bytes32, cid: String[100], salt: bytes32,
                         proof: DynArray[bytes32, 32]) -> bool: view

@external
@view
def ask(registry: address, root: bytes32, leaf: bytes32, id: String[100], dataHash: bytes32,
        cid: String[100], salt: bytes32, proof: DynArray[bytes32, 32]) -> (bool, bool, bool):
    return (
        staticcall Registry(registry).isAnchored(root),
        staticcall Registry(registry).verify(root, leaf, proof),
        staticcall Registry(registry).verifyCredential(root, id, dataHash, cid, salt, proof),
    )
"""


def test_it_answers_to_other_contracts(anvil: Anvil, anvil_client: ChainClient) -> None:
    """A contract of somebody else asks the same three questions."""
    bytecode = compile_code(CONSUMER, output_formats=["bytecode"])["bytecode"]
    consumer = deploy(anvil, bytecode)
    batch = credentials(7)
    tree = MerkleTree(credential.leaf for credential in batch)

    def ask(credential: Credential) -> tuple[bool, ...]:
        proof = tree.proof(batch[1].leaf)
        types = ["address", "bytes32", "bytes32", "string", "bytes32", "string", "bytes32", "bytes32[]"]
        values = [anvil_client.contract_address, tree.root, credential.leaf, credential.credential_id]
        values += [credential.data_hash, credential.ipfs_cid, credential.salt, proof]
        data = keccak(text=f"ask({','.join(types)})")[:4] + encode(types, values)
        found = anvil_client.rpc.call("eth_call", [{"to": consumer, "data": "0x" + data.hex()}, "latest"])
        return tuple(decode(["bool"] * 3, bytes.fromhex(found[2:])))

    assert ask(batch[1]) == (False, False, False)
    anchor(anvil_client, tree.root)
    assert ask(batch[1]) == (True, True, True)
    assert ask(batch[2]) == (True, False, False)


def deploy(anvil: Anvil, bytecode: str) -> str:
    """Deploy from an account that anvil signs for; returns the address."""
    call = {"from": anvil.accounts[1].address, "data": bytecode, "gas": hex(1_000_000)}
    hash_ = anvil.rpc("eth_sendTransaction", call)
    until(lambda: anvil.rpc("eth_getTransactionReceipt", hash_) is not None, seconds=10, what="mined")
    receipt = anvil.rpc("eth_getTransactionReceipt", hash_)
    assert quantity(receipt["status"]) == 1
    return to_checksum_address(receipt["contractAddress"])


@pytest.mark.parametrize(("count", "limit_gas"), [(1, 50_000), (1000, 60)])
def test_gas_for_each_credential(anvil_client: ChainClient, count: int, limit_gas: int) -> None:
    """One slot and one event for a root, however many credentials are under it."""
    tree = MerkleTree(credential.leaf for credential in credentials(count))
    per_credential_gas = anchor(anvil_client, tree.root).gas_used / count
    print(f"{count} credentials: {per_credential_gas:g} gas each")
    assert per_credential_gas <= limit_gas


def test_gas_of_a_check(anvil_client: ChainClient) -> None:
    """What another contract pays for the proof of one among 1,000, at most."""
    batch = credentials(1000)
    tree = MerkleTree(credential.leaf for credential in batch)
    anchor(anvil_client, tree.root)
    one = batch[3]
    proof = tree.proof(one.leaf)
    values = (tree.root, one.credential_id, one.data_hash, one.ipfs_cid, one.salt, proof)
    data = calldata("verifyCredential", *values)
    call = {"to": anvil_client.contract_address, "data": "0x" + data.hex()}
    used_gas = quantity(anvil_client.rpc.call("eth_estimateGas", [call]))
    print(f"verifyCredential with {len(proof)} siblings: {used_gas} gas, the transaction's 21,000 included")
    assert used_gas < 60_000

"""Promise: the verdict on a receipt is the chain's, asked through real nodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import merkle
from pipeline.chain.blocks import Receipt as Mined
from pipeline.chain.blocks import quantity
from pipeline.chain.client import ChainClient
from pipeline.chain.registry import encode
from pipeline.embedded.evm import EvmServer
from pipeline.hashing import document_hash, document_text
from pipeline.proof import Anchoring, Verdict, build_receipt, verify
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

DOCUMENT = {"degree": "Máster", "grade": 1.0, "limit": 1e20}
TEXT = document_text(DOCUMENT)
SIZE = 200


@dataclass(frozen=True)
class Issued:
    """A batch that is anchored at a node."""

    node: Anvil | EvmServer
    client: ChainClient
    tree: merkle.MerkleTree
    salts: list[bytes]
    leaves: list[bytes]
    mined: Mined

    def receipt(self, number: int = 7, **changes: Any) -> dict[str, Any]:
        """The receipt of one credential, with other values where ``changes`` has some."""
        block = self.client.block(self.mined.block_number)
        assert block is not None
        anchoring = Anchoring(
            chain_id=self.client.chain_id,
            contract_address=self.client.contract_address,
            issuer=self.client.signer_address,
            transaction_hash=self.mined.transaction_hash,
            block_number=self.mined.block_number,
            block_hash=self.mined.block_hash,
            block_time=block.timestamp,
        )
        made = build_receipt(
            credential_id=f"credential-{number}",
            data_hash=document_hash(DOCUMENT),
            ipfs_cid=None,
            salt=self.salts[number],
            merkle_proof=self.tree.proof(self.leaves[number]),
            merkle_root=self.tree.root,
            anchoring=anchoring,
            final=False,
            document_checked=True,
        )
        return made | changes

    def verify(self, number: int = 7, *more_urls: str, **changes: Any) -> Verdict:
        """The verdict on `receipt` by this node, and by others."""
        return verify(self.receipt(number, **changes), TEXT, rpc_urls=[self.node.rpc_url, *more_urls])


def new_client(node: Anvil | EvmServer, contract_address: str | None = None) -> ChainClient:
    """A client of the node's funded account."""
    return ChainClient(
        Settings(
            blockchain_rpc_url=node.rpc_url,
            blockchain_chain_id=node.chain_id,
            blockchain_private_key=node.private_key,
            blockchain_contract_address=contract_address,
        )
    )


def transact(node: Anvil | EvmServer, client: ChainClient, name: str, *values: Any) -> Mined:
    """Call a function of the registry as its owner, and wait until that is mined."""
    return send(node, client, to=client.contract_address, data=encode(name, *values))


def send(node: Anvil | EvmServer, client: ChainClient, **fields: Any) -> Mined:
    """Send a transaction of the owner, and wait until it is mined."""
    from eth_account import Account

    fees = client.fees()
    signed = Account.from_key(node.private_key).sign_transaction(
        {
            "chainId": client.chain_id,
            "nonce": client.transaction_counts()[1],
            "value": 0,
            "gas": 200_000,
            "type": 2,
            "maxFeePerGas": fees.max_fee_wei,
            "maxPriorityFeePerGas": fees.tip_wei,
            **fields,
        }
    )
    answer = client.send(bytes(signed.raw_transaction))
    assert answer.taken, answer
    transaction_hash = "0x" + signed.hash.hex()
    mined = None
    while mined is None:  # the test's time-out ends it
        mined = client.receipts([transaction_hash])[transaction_hash]
    assert mined.status == 1
    return mined


@pytest.fixture(params=["anvil", "evm_server"])
def issued(request: pytest.FixtureRequest) -> Issued:
    """A batch on anvil and on the embedded node."""
    node: Anvil | EvmServer = request.getfixturevalue(request.param)
    client = new_client(node, new_client(node).deploy().contract_address)
    digest = bytes.fromhex(document_hash(DOCUMENT))
    salts = [os.urandom(32) for _ in range(SIZE)]
    leaves = [merkle.leaf_hash(f"credential-{number}", digest, "", salt) for number, salt in enumerate(salts)]
    tree = merkle.MerkleTree(leaves)
    return Issued(node, client, tree, salts, leaves, transact(node, client, "anchor", tree.root))


def test_anchored_credentials_are_valid(issued: Issued) -> None:
    """With nothing to remark, and the contract says the same of the same values."""
    digest = bytes.fromhex(document_hash(DOCUMENT))
    for number in range(0, SIZE, 40):
        assert issued.verify(number) == Verdict("valid")
        proof = issued.tree.proof(issued.leaves[number])
        values = (f"credential-{number}", digest, "", issued.salts[number], proof)
        assert issued.client.registry.verify_credential(issued.tree.root, *values)


def reverting(issued: Issued) -> str | None:
    """The address of a contract that has no function, and reverts without a word."""
    # PUSH4 code, PUSH1 0, MSTORE, PUSH1 4, PUSH1 28, RETURN; the code is PUSH1 0, DUP1, REVERT.
    return send(issued.node, issued.client, data=bytes.fromhex("63600080fd6000526004601cf3")).contract_address


def test_what_the_chain_does_not_say_is_invalid(issued: Issued) -> None:
    """Another registry, no registry, another issuer."""
    another = new_client(issued.node).deploy().contract_address
    nobody = "0x" + "12" * 20
    assert issued.verify(contract_address=another).step == "registry"
    assert issued.verify(contract_address=nobody).step == "registry"
    assert issued.verify(contract_address=issued.client.signer_address).step == "registry"
    assert issued.verify(contract_address=reverting(issued)).step == "registry"
    assert issued.verify(issuer=nobody).step == "issuer"
    assert issued.verify(issuer=nobody).verdict == "invalid"
    assert verify(issued.receipt(), "{}", rpc_urls=[issued.node.rpc_url]).step == "document"


def test_revoked_ones_are_revoked(issued: Issued) -> None:
    """First one leaf, then all."""
    transact(issued.node, issued.client, "revokeLeaf", issued.tree.root, issued.leaves[7])
    assert issued.verify(7).verdict == "revoked"
    assert issued.verify(8).verdict == "valid"
    transact(issued.node, issued.client, "revokeRoot", issued.tree.root)
    assert issued.verify(8).verdict == "revoked"


def test_another_chain_is_unknown(issued: Issued) -> None:
    """The node is not the one to ask."""
    found = issued.verify(chain_id="eip155:1")
    assert (found.verdict, found.step) == ("unknown", "chain")


@pytest.mark.parametrize("issued", ["anvil"], indirect=True)
def test_a_node_that_is_behind_or_down(issued: Issued, start_anvil: Callable[..., Anvil]) -> None:
    """Alone unknown; beside a good one no hindrance."""
    behind, elsewhere = start_anvil(), start_anvil(chain_id=5)
    receipt = issued.receipt()
    assert verify(receipt, rpc_urls=[behind.rpc_url]).verdict == "unknown"
    assert verify(receipt, rpc_urls=[elsewhere.rpc_url]).verdict == "unknown"
    assert issued.verify(7, behind.rpc_url, elsewhere.rpc_url).verdict == "valid"
    assert isinstance(issued.node, Anvil)
    issued.node.kill()
    assert verify(receipt, rpc_urls=[issued.node.rpc_url]).verdict == "unknown"
    assert verify(receipt, rpc_urls=[issued.node.rpc_url, behind.rpc_url]).verdict == "unknown"


@pytest.mark.parametrize("issued", ["anvil"], indirect=True)
def test_a_receipt_outlives_a_reorg(issued: Issued) -> None:
    """The root is anchored again in another block: a note."""
    node = issued.node
    assert isinstance(node, Anvil)
    receipt = issued.receipt()
    raw = node.rpc("eth_getRawTransactionByHash", issued.mined.transaction_hash)
    node.mine(2)
    node.rpc("anvil_reorg", 3, [])
    assert verify(receipt, rpc_urls=[node.rpc_url]).verdict == "invalid"
    assert issued.client.send(bytes.fromhex(raw[2:])).taken
    again = None
    while again is None:  # the test's time-out ends it
        again = issued.client.receipts([issued.mined.transaction_hash])[issued.mined.transaction_hash]
    assert again.block_hash != issued.mined.block_hash
    found = verify(receipt, TEXT, rpc_urls=[node.rpc_url])
    assert (found.verdict, found.step) == ("valid", None)
    assert "is another one now" in (found.reason or "")
    assert quantity(node.rpc("eth_blockNumber")) >= issued.mined.block_number

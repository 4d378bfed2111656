"""Promise: only issuers anchor, once for each root; only who may revokes; ownership moves in two steps;
and every refusal says why."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account as Key
from eth_utils import keccak

from pipeline.chain.blocks import Receipt, quantity
from pipeline.chain.client import ChainClient
from pipeline.chain.registry import Registry, encode, revert_text
from pipeline.chain.rpc import RpcError
from pipeline.chain.signer import LocalSigner
from pipeline.chain.transaction import prepare
from pipeline.settings import Settings
from tests.servers.anvil import Account, Anvil

OWNER, ISSUER, STRANGER = Anvil.accounts[:3]
NOBODY = "0x" + "00" * 20
ROOT, OTHER_ROOT, LEAF = (keccak(text=name) for name in ("root", "other root", "leaf"))


class Contract:
    """A registry that `OWNER` has deployed on an anvil, and what accounts do to it."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.client = ChainClient(settings(anvil))
        self.registry = Registry(self.client.rpc, self.client.deploy().contract_address)

    def transact(self, account: Account, name: str, *values: Any) -> Receipt:
        """Send a call of ``account`` and return its receipt. Raises `RpcError` for one that would revert."""
        call = {
            "from": account.address,
            "to": self.registry.address,
            "data": "0x" + encode(name, *values).hex(),
        }
        gas = quantity(self.client.rpc.call("eth_estimateGas", [call]))
        nonce = quantity(self.client.rpc.call("eth_getTransactionCount", [account.address, "pending"]))
        transaction = prepare(
            LocalSigner(Key.from_key(account.private_key)),
            chain_id=self.anvil.chain_id,
            nonce=nonce,
            to=self.registry.address,
            data=encode(name, *values),
            gas_limit=gas,
            fees=self.client.fees(),
        )
        assert self.client.send(transaction.raw).taken
        receipt = None
        while receipt is None:  # the test's time-out ends it
            receipt = self.client.receipts([transaction.hash])[transaction.hash]
        assert receipt.status == 1
        return receipt

    def refusal(self, account: Account, name: str, *values: Any) -> str | None:
        """Why the contract refuses the call, without "registry: "."""
        with pytest.raises(RpcError) as caught:
            self.transact(account, name, *values)
        return revert_text(caught.value)

    def read(self, name: str, *values: Any) -> Any:
        """What a view returns."""
        found = self.client.rpc.batch([self.registry.request(name, *values)])[0]
        return self.registry.decode(name, found)[0]

    def events(self, receipt: Receipt) -> list[list[str]]:
        """The topics of the events of a transaction: event, then its indexed values."""
        return [
            log["topics"]
            for log in self.anvil.rpc("eth_getTransactionReceipt", receipt.transaction_hash)["logs"]
        ]


def settings(anvil: Anvil) -> Settings:
    """The settings with which `OWNER` deploys."""
    return Settings(
        blockchain_rpc_url=anvil.rpc_url,
        blockchain_chain_id=anvil.chain_id,
        blockchain_private_key=OWNER.private_key,
    )


def event(signature: str, *values: bytes | str) -> list[str]:
    """The topics of an event whose values are all indexed."""
    words = [bytes.fromhex(value[2:]) if isinstance(value, str) else value for value in values]
    return ["0x" + word.rjust(32, b"\0").hex() for word in (keccak(text=signature), *words)]


@pytest.fixture
def contract(anvil: Anvil) -> Contract:
    """A fresh registry on a fresh chain."""
    return Contract(anvil)


def test_the_deployer_is_owner_and_issuer(contract: Contract) -> None:
    """And nobody else is; the contract says what it is."""
    assert contract.read("owner").lower() == OWNER.address.lower()
    assert contract.read("pendingOwner") == NOBODY
    assert contract.registry.is_issuer(OWNER.address)
    assert not contract.registry.is_issuer(STRANGER.address)
    assert contract.read("version") == "CredentialRegistry 1"


def test_anchor(contract: Contract) -> None:
    """A root is anchored by an issuer, at the block's time, with one event."""
    assert not contract.registry.is_anchored(ROOT)
    assert contract.registry.anchored_by(ROOT) is None
    receipt = contract.transact(OWNER, "anchor", ROOT)
    block = contract.client.block(receipt.block_number)
    anchor = contract.registry.anchored_by(ROOT)
    assert contract.registry.is_anchored(ROOT)
    assert block is not None
    assert anchor is not None
    assert (anchor.issuer, anchor.timestamp) == (OWNER.address, block.timestamp)
    assert contract.events(receipt) == [event("Anchored(bytes32,address)", ROOT, OWNER.address)]


def test_the_same_root_twice_is_refused(contract: Contract) -> None:
    """By whichever issuer; the first anchor stays."""
    contract.transact(OWNER, "anchor", ROOT)
    contract.transact(OWNER, "addIssuer", ISSUER.address)
    assert contract.refusal(OWNER, "anchor", ROOT) == "already anchored"
    assert contract.refusal(ISSUER, "anchor", ROOT) == "already anchored"
    anchor = contract.registry.anchored_by(ROOT)
    assert anchor is not None
    assert anchor.issuer == OWNER.address


def test_the_empty_root_is_refused(contract: Contract) -> None:
    """32 zero bytes are what a forgotten value looks like."""
    assert contract.refusal(OWNER, "anchor", bytes(32)) == "empty root"


def test_only_issuers_anchor(contract: Contract) -> None:
    """The owner gives the role and takes it away; what was anchored stays."""
    assert contract.refusal(ISSUER, "anchor", ROOT) == "not an issuer"
    receipt = contract.transact(OWNER, "addIssuer", ISSUER.address)
    assert contract.events(receipt) == [event("IssuerAdded(address)", ISSUER.address)]
    contract.transact(ISSUER, "anchor", ROOT)
    receipt = contract.transact(OWNER, "removeIssuer", ISSUER.address)
    assert contract.events(receipt) == [event("IssuerRemoved(address)", ISSUER.address)]
    assert contract.refusal(ISSUER, "anchor", OTHER_ROOT) == "not an issuer"
    assert contract.registry.is_anchored(ROOT)


def test_only_the_owner_names_issuers(contract: Contract) -> None:
    """An issuer can not; nor is a role given or taken twice, or given to nobody."""
    contract.transact(OWNER, "addIssuer", ISSUER.address)
    for name in ("addIssuer", "removeIssuer"):
        assert contract.refusal(ISSUER, name, ISSUER.address) == "not the owner"
    assert contract.refusal(OWNER, "addIssuer", ISSUER.address) == "already an issuer"
    assert contract.refusal(OWNER, "addIssuer", NOBODY) == "empty address"
    assert contract.refusal(OWNER, "removeIssuer", STRANGER.address) == "not an issuer"


def test_ownership_moves_in_two_steps(contract: Contract) -> None:
    """Offered, then accepted; until then the owner is the old one, and afterwards no more."""
    receipt = contract.transact(OWNER, "transferOwnership", ISSUER.address)
    assert contract.events(receipt) == [
        event("OwnershipTransferStarted(address,address)", OWNER.address, ISSUER.address)
    ]
    assert contract.read("owner").lower() == OWNER.address.lower()
    assert contract.refusal(STRANGER, "acceptOwnership") == "not the pending owner"
    assert contract.refusal(OWNER, "acceptOwnership") == "not the pending owner"
    receipt = contract.transact(ISSUER, "acceptOwnership")
    assert contract.events(receipt) == [
        event("OwnershipTransferred(address,address)", OWNER.address, ISSUER.address)
    ]
    assert contract.read("owner").lower() == ISSUER.address.lower()
    assert contract.read("pendingOwner") == NOBODY
    assert contract.refusal(OWNER, "addIssuer", STRANGER.address) == "not the owner"
    assert contract.refusal(ISSUER, "acceptOwnership") == "not the pending owner"
    contract.transact(ISSUER, "addIssuer", STRANGER.address)
    assert contract.registry.is_issuer(OWNER.address), "the roles of issuers stay as they were"


def test_an_offer_can_be_taken_back(contract: Contract) -> None:
    """By offering to nobody."""
    assert contract.refusal(STRANGER, "transferOwnership", STRANGER.address) == "not the owner"
    contract.transact(OWNER, "transferOwnership", ISSUER.address)
    contract.transact(OWNER, "transferOwnership", NOBODY)
    assert contract.refusal(ISSUER, "acceptOwnership") == "not the pending owner"


def test_revoked_root(contract: Contract) -> None:
    """It was anchored, and is not valid any more; nor can it be anchored again, or revoked twice."""
    contract.transact(OWNER, "anchor", LEAF)
    anchor = contract.registry.anchored_by(LEAF)
    assert contract.read("verify", LEAF, LEAF, [])
    receipt = contract.transact(OWNER, "revokeRoot", LEAF)
    assert contract.events(receipt) == [event("RootRevoked(bytes32,address)", LEAF, OWNER.address)]
    assert contract.registry.is_revoked(LEAF, LEAF)
    assert not contract.read("verify", LEAF, LEAF, [])
    assert contract.read("isIssued", LEAF, LEAF, [])
    assert contract.registry.anchored_by(LEAF) == anchor
    assert contract.refusal(OWNER, "anchor", LEAF) == "already anchored"
    assert contract.refusal(OWNER, "revokeRoot", LEAF) == "already revoked"


def test_revoked_leaf(contract: Contract) -> None:
    """It alone, and only under that root."""
    root = keccak(min(LEAF, OTHER_ROOT) + max(LEAF, OTHER_ROOT))
    contract.transact(OWNER, "anchor", root)
    contract.transact(OWNER, "anchor", LEAF)
    receipt = contract.transact(OWNER, "revokeLeaf", root, LEAF)
    assert contract.events(receipt) == [
        event("LeafRevoked(bytes32,bytes32,address)", root, LEAF, OWNER.address)
    ]
    assert contract.registry.is_revoked(root, LEAF)
    assert not contract.read("verify", root, LEAF, [OTHER_ROOT])
    assert contract.read("verify", root, OTHER_ROOT, [LEAF])
    assert contract.read("verify", LEAF, LEAF, [])
    assert contract.refusal(OWNER, "revokeLeaf", root, LEAF) == "already revoked"


@pytest.mark.parametrize(("name", "values"), [("revokeRoot", (ROOT,)), ("revokeLeaf", (ROOT, LEAF))])
def test_who_may_revoke(contract: Contract, name: str, values: tuple[bytes, ...]) -> None:
    """The issuer that anchored it, while it is one, and the owner; of what is anchored."""
    assert contract.refusal(OWNER, name, *values) == "not anchored"
    for issuer in (ISSUER, STRANGER):
        contract.transact(OWNER, "addIssuer", issuer.address)
    contract.transact(ISSUER, "anchor", ROOT)
    refused = "neither the root's issuer nor the owner"
    assert contract.refusal(STRANGER, name, *values) == refused
    contract.transact(OWNER, "removeIssuer", ISSUER.address)
    assert contract.refusal(ISSUER, name, *values) == refused
    contract.transact(OWNER, "addIssuer", ISSUER.address)
    contract.transact(ISSUER, name, *values)
    assert contract.registry.is_revoked(ROOT, LEAF)


def test_the_owner_revokes_what_others_anchored(contract: Contract) -> None:
    """For an issuer that lost its key."""
    contract.transact(OWNER, "addIssuer", ISSUER.address)
    contract.transact(ISSUER, "anchor", ROOT)
    contract.transact(OWNER, "revokeLeaf", ROOT, LEAF)
    contract.transact(OWNER, "revokeRoot", ROOT)
    assert contract.registry.is_revoked(ROOT, OTHER_ROOT)


def test_nothing_is_revoked_before_it_is_anchored(contract: Contract) -> None:
    """A root that nobody anchored is neither issued nor revoked."""
    assert not contract.registry.is_revoked(ROOT, LEAF)
    assert not contract.read("isIssued", ROOT, ROOT, [])


def test_it_takes_no_money(contract: Contract) -> None:
    """Ether that was sent to it could never be got back."""
    for data in ("0x", "0x" + encode("anchor", ROOT).hex()):
        call = {"from": OWNER.address, "to": contract.registry.address, "value": "0x1", "data": data}
        with pytest.raises(RpcError):
            contract.client.rpc.call("eth_estimateGas", [call])

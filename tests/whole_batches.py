"""Batches of any size that the ledger has anchored at a node, and who judges their receipts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import proof
from pipeline.chain.client import ChainClient
from pipeline.hashing import document_hash
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, joining, queueing, transactions, verification
from pipeline.ledger.batches import Account
from pipeline.ledger.confirmation import confirm
from pipeline.ledger.sql import chunks
from pipeline.ledger.transactions import Mined
from pipeline.merkle import LEAF_ENCODING
from pipeline.models import Batch, Credential
from tests import node
from tests.issuer import CID, document

Json = dict[str, Any]


@dataclass(frozen=True)
class WholeBatch:
    """The credentials ``c0``, ``c1`` and so on, as the ledger has them, and the node that has their root."""

    chain: ChainClient
    rpc_url: str
    size: int
    root: str

    def ours(self, receipt: Json, text: bytes) -> tuple[str, str | None]:
        """Verdict and step of our verifier."""
        found = proof.verify(receipt, text, rpc_urls=[self.rpc_url])
        return found.verdict, found.step

    def on_chain(self, receipts: Sequence[Json]) -> list[bool]:
        """What the registry itself says of their values, asked all at once."""
        registry = self.chain.registry
        requests = [registry.request("verifyCredential", *arguments(receipt)) for receipt in receipts]
        return [registry.decode("verifyCredential", said)[0] for said in self.chain.rpc.batch(requests)]


def right_document(receipt: Json) -> bytes:
    """The document of the receipt's credential."""
    return json.dumps(document(int(receipt["leaf_values"][0].removeprefix("c")))).encode()


def arguments(receipt: Json) -> tuple[Any, ...]:
    """What ``verifyCredential`` is called with."""
    credential_id, data_hash, ipfs_cid, salt = receipt["leaf_values"]
    siblings = [from_hex(sibling) for sibling in receipt["merkle_proof"]]
    root = from_hex(receipt["merkle_root"])
    return root, credential_id, from_hex(data_hash), ipfs_cid, from_hex(salt), siblings


def npm(receipts: Iterable[Json], dump: Json | None = None, values: Sequence[int] = ()) -> Json:
    """What OpenZeppelin's library says of the receipts' proofs, and of a dump; see ``merkle.cjs``."""
    proofs = [
        {"root": receipt["merkle_root"], "value": receipt["leaf_values"], "proof": receipt["merkle_proof"]}
        for receipt in receipts
    ]
    question = {"encoding": LEAF_ENCODING, "proofs": proofs, "dump": dump, "values": list(values)}
    answer: Json = node.ask("merkle.cjs", question)
    return answer


def from_hex(text: str) -> bytes:
    """Bytes of ``0x`` and hex digits."""
    return bytes.fromhex(text.removeprefix("0x"))


def verified(size: int) -> int:
    """The id of a batch of that many credentials, which waits for its turn; every third has a CID."""
    for part in chunks(range(size)):
        Credential.insert_many([{"id": f"c{number}"} for number in part]).execute()
    requests = [
        WriteRequest.of(f"c{number}", document_hash(document(number)), CID if number % 3 == 0 else None)
        for number in range(size)
    ]
    ids = [queued.write_id for queued in queueing.queue(requests)]
    verification.begin(ids)
    [batch_id] = joining.join(ids, [], lane="normal", max_size=size, linger_seconds=0)
    return batch_id


def anchored(chain: ChainClient, rpc_url: str, size: int) -> WholeBatch:
    """A batch that went all the way, through the ledger and the chain."""
    batch_id, fees = verified(size), chain.fees()
    stored = batches.submit(
        batch_id,
        Account(chain.chain_id, chain.signer_address, chain.contract_address),
        nonce_floor=chain.transaction_counts()[1],
        sign=lambda root, nonce: chain.prepare_anchor(root, nonce, fees),
    )
    assert stored is not None
    assert chain.send(from_hex(stored.raw_transaction)).taken
    transactions.record_mined(stored.id, mined(chain, stored.hash))
    assert transactions.settle(batch_id)
    assert len(confirm(batch_id)) == size
    return WholeBatch(chain, rpc_url, size, Batch.get_by_id(batch_id).merkle_root)


def mined(chain: ChainClient, transaction_hash: str) -> Mined:
    """Where the transaction is; the test's time-out ends the wait."""
    found = None
    while found is None:
        found = chain.receipts([transaction_hash])[transaction_hash]
    block = chain.block(found.block_number)
    assert block is not None
    assert found.status == 1
    return Mined(
        found.block_number, found.block_hash, block.timestamp, found.gas_used, found.gas_price_wei, 1
    )

"""Promise: of a batch of any size our verifier, the registry and OpenZeppelin's library say the same, of what
is right and of what is changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import merkle, proof
from tests.chain import registered
from tests.receipts import OTHER, OTHER_ADDRESS, VALIDATOR
from tests.servers.anvil import Anvil
from tests.whole_batches import Json, WholeBatch, anchored, from_hex, npm, right_document


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", [1, 2, 3, 1000, 10_000])
def test_all_judges_agree(ledger: str, anvil: Anvil, size: int) -> None:
    """On every receipt, or every hundredth; and no one takes what is changed in it."""
    batch, step = anchored(registered(anvil), anvil.rpc_url, size), 100 if size > 100 else 1
    receipts = [proof.receipt(f"c{number}") for number in range(0, size, step)]
    ours(batch, receipts)
    assert batch.on_chain(receipts) == [True] * len(receipts)
    openzeppelin(batch, receipts, range(0, size, step))
    for receipt in receipts[:: max(1, len(receipts) // 3)]:
        refused(batch, receipt)
    elsewhere(batch, receipts[-1], registered(anvil).contract_address)


def ours(batch: WholeBatch, receipts: list[Json]) -> None:
    """Our verifier takes each, with its document; the schema, too."""
    for receipt in receipts:
        VALIDATOR.validate(receipt)
        assert batch.ours(receipt, right_document(receipt)) == ("valid", None)


def openzeppelin(batch: WholeBatch, receipts: list[Json], numbers: range) -> None:
    """Theirs takes each, loads the dump of the whole batch, and makes the same proofs of that."""
    dump = json.loads(json.dumps(proof.batch_dump(batch.root)))
    assert len(dump["values"]) == batch.size
    assert [dump["values"][number]["value"] for number in numbers] == [one["leaf_values"] for one in receipts]
    theirs = npm(receipts, dump, numbers)
    assert theirs["verified"] == [True] * len(receipts)
    assert theirs["root"] == batch.root == receipts[0]["merkle_root"]
    assert theirs["made"] == [receipt["merkle_proof"] for receipt in receipts]


def refused(batch: WholeBatch, receipt: Json) -> None:
    """No one takes a changed one; ours names the step."""
    document = right_document(receipt)
    assert batch.ours(receipt, document.replace(b"1.5", b"1.6")) == ("invalid", "document")
    cases = list(changes(receipt))
    for changed, step in cases:
        assert batch.ours(changed, document) == ("invalid", step), changed
    changed_ones = [changed for changed, _ in cases]
    assert not any(batch.on_chain(changed_ones))
    assert not any(npm(changed_ones)["verified"])


def elsewhere(batch: WholeBatch, receipt: Json, another: str) -> None:
    """Another registry, no registry, another issuer."""
    document = right_document(receipt)
    for address in (another, OTHER_ADDRESS):
        assert batch.ours(receipt | {"contract_address": address}, document) == ("invalid", "registry")
    assert batch.ours(receipt | {"issuer": OTHER_ADDRESS}, document) == ("invalid", "issuer")


def changes(receipt: Json) -> Iterator[tuple[Json, str]]:
    """The receipt, changed in one thing each time, and the step that has to see it."""
    for place, step in enumerate(("leaf", "document", "leaf", "leaf")):
        yield with_value(receipt, place), step
    yield receipt | {"merkle_root": flip(receipt["merkle_root"])}, "proof"
    siblings = receipt["merkle_proof"]
    others = [[*siblings[:place], flip(one), *siblings[place + 1 :]] for place, one in enumerate(siblings)]
    for changed in (*others, [*siblings, OTHER], siblings[:-1], siblings[1:], []):
        if changed != siblings:
            yield receipt | {"merkle_proof": changed}, "proof"
    if siblings:
        yield as_inner_node(receipt), "leaf"


def with_value(receipt: Json, place: int) -> Json:
    """One of the leaf's values with another bit, or another text."""
    changed: dict[str, Any] = copy.deepcopy(receipt)
    text = changed["leaf_values"][place]
    changed["leaf_values"][place] = flip(text) if text.startswith("0x") else text + "0"
    return changed


def flip(word: str) -> str:
    """32 bytes in hex with their last bit turned."""
    return "0x" + (int(word, 16) ^ 1).to_bytes(32).hex()


def as_inner_node(receipt: Json) -> Json:
    """The leaf's parent as the leaf, with a proof that leads from there to the root."""
    sibling, *rest = receipt["merkle_proof"]
    parent = merkle.root_of(from_hex(receipt["leaf"]), [from_hex(sibling)])
    assert merkle.verify(from_hex(receipt["merkle_root"]), parent, [from_hex(one) for one in rest])
    return receipt | {"leaf": "0x" + parent.hex(), "merkle_proof": rest}

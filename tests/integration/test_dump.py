"""Promise: a completed batch can be dumped as a whole, by any spelling of its root, and no other one can."""

from __future__ import annotations

import pytest

from pipeline import proof
from pipeline.errors import InvalidInput, InvalidReceipt, NotAnchored
from pipeline.models import Batch, BatchState, Tree, Write
from tests.ledger import finish_all, queue
from tests.receipts import OTHER
from tests.whole_batches import Json, npm


def completed(count: int) -> str:
    """The root of a batch of that many, which went through in mock mode."""
    queue(count)
    finish_all()
    root: str = Batch.get(Batch.state == BatchState.CONFIRMED).merkle_root
    return root


def loaded(dump: Json) -> list[list[str]]:
    """The proofs that OpenZeppelin's library makes of a dump, one for each value in it."""
    theirs = npm([], dump, range(len(dump["values"])))
    assert theirs["root"] == dump["tree"][0]
    made: list[list[str]] = theirs["made"]
    return made


def test_a_dump(ledger: str) -> None:
    """It is ``standard-v1``; each member's value is that of its receipt, in the order of the queue."""
    dump = proof.batch_dump(completed(5))
    receipts = [proof.receipt(f"c{number}") for number in range(5)]
    assert list(dump) == ["format", "leafEncoding", "tree", "values"]
    assert (dump["format"], dump["leafEncoding"]) == ("standard-v1", receipts[0]["leaf_encoding"])
    assert [entry["value"] for entry in dump["values"]] == [one["leaf_values"] for one in receipts]
    assert [dump["tree"][entry["treeIndex"]] for entry in dump["values"]] == [one["leaf"] for one in receipts]
    assert len(dump["tree"]) == 9
    assert loaded(dump) == [receipt["merkle_proof"] for receipt in receipts]


def test_any_spelling_of_the_root(ledger: str) -> None:
    """With ``0x`` or without, in any case."""
    root = completed(2)
    digits = root.removeprefix("0x")
    dumps = [proof.batch_dump(text) for text in (root, digits, digits.upper(), "0X" + digits.upper())]
    assert dumps == [dumps[0]] * 4


def test_a_batch_of_one(ledger: str) -> None:
    """Its leaf is the tree."""
    root = completed(1)
    dump = proof.batch_dump(root)
    assert dump["tree"] == [root]
    assert loaded(dump) == [[]]


def test_without_a_stored_tree(ledger: str) -> None:
    """A batch from before there were any: the tree is made of the leaves."""
    root = completed(3)
    stored = proof.batch_dump(root)
    assert Tree.delete().execute() == 1
    assert proof.batch_dump(root) == stored


def test_an_erased_member_is_left_out(ledger: str) -> None:
    """Its leaf stays where it was, so that the others' proofs still hold."""
    root = completed(3)
    before = proof.batch_dump(root)
    Write.update(salt=None).where(Write.credential_id == "c1").execute()
    dump = proof.batch_dump(root)
    assert dump == before | {"values": [before["values"][0], before["values"][2]]}
    assert loaded(dump) == [proof.receipt(name)["merkle_proof"] for name in ("c0", "c2")]


def test_what_is_not_completed_has_no_dump(ledger: str) -> None:
    """A root that nobody has, that of a batch on its way, and of one that failed."""
    root = completed(2)
    with pytest.raises(NotAnchored, match="there is none with this root"):
        proof.batch_dump(OTHER)
    Batch.update(state=BatchState.SETTLED).execute()
    with pytest.raises(NotAnchored, match="is not completed"):
        proof.batch_dump(root)
    Batch.update(state=BatchState.FAILED).execute()
    with pytest.raises(NotAnchored, match="there is none with this root"):
        proof.batch_dump(root)


@pytest.mark.parametrize("root", ["", "0x", "ab", OTHER + "0", OTHER[:-1] + "g", "0x" + OTHER])
def test_what_is_no_root(root: str) -> None:
    """Said before anything is looked up."""
    with pytest.raises(InvalidInput, match="64 hex digits"):
        proof.batch_dump(root)


def test_no_dump_that_does_not_hold(ledger: str) -> None:
    """A row or a tree that was changed by hand is found out."""
    root = completed(2)
    changed = Write.credential_id == "c1"
    Write.update(data_hash="ab" * 32).where(changed).execute()
    with pytest.raises(InvalidReceipt, match="'c1': its leaf is not in the batch's tree"):
        proof.batch_dump(root)
    Tree.update(nodes=bytes(96)).execute()
    with pytest.raises(InvalidReceipt, match="do not lead to it"):
        proof.batch_dump(root)

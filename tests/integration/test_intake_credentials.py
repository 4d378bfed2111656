"""Promise: of a credential's row only the pipeline's own keys change, and its document keeps its hash."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.hashing import document_hash, load_document
from pipeline.ledger import verification
from pipeline.models import Credential
from tests.intake import CID, HASH, OTHER_HASH, fail, finish, insert_row, metadata_of, writes
from tests.issuer import document


def test_the_issuers_keys_survive(client: Any) -> None:
    """All states of a write change only this project's own keys, whatever the issuer's values are."""
    own = {"name": "é \" ' %s", "deep": {"a": None, "b": [1, {"c": 2}]}, "nothing": None, "n": 1.5}
    insert_row("c1", metadata=json.dumps(own))
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {**own, "blockchain_status": "pending"}
    fail("c1")
    error = "HashMismatch: because of the test"
    assert metadata_of("c1") == {**own, "blockchain_status": "failed", "blockchain_error": error}
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {**own, "blockchain_status": "pending"}
    finish("c1")
    found = metadata_of("c1")
    assert found.pop("blockchain_confirmed_at").endswith("Z")
    assert found == {**own, "blockchain_status": "confirmed"}


def test_where_it_is_anchored_is_in_the_metadata(client: Any, credential: str) -> None:
    """Transaction and block of a confirmed write; a later failure takes them away."""
    from pipeline.ledger import metadata

    metadata.mark_confirmed([credential], transaction_hash="0x01", block_number=7, confirmed_at=1.5)
    assert metadata_of(credential) == {
        "blockchain_status": "confirmed",
        "blockchain_transaction_hash": "0x01",
        "blockchain_block_number": 7,
        "blockchain_confirmed_at": "1970-01-01T00:00:01.500Z",
    }
    metadata.mark_failed([credential], "an error")
    assert metadata_of(credential) == {"blockchain_status": "failed", "blockchain_error": "an error"}


@pytest.mark.parametrize("stored", ["{}", "null", "[]", '"text"'])
def test_metadata_that_is_no_object(client: Any, stored: str) -> None:
    """A row of another program may hold anything; its write must not fail for it."""
    insert_row("c1", metadata=stored)
    client.write_to_blockchain_queued("c1", HASH)
    assert metadata_of("c1") == {"blockchain_status": "pending"}


def test_issued_again(client: Any) -> None:
    """The issuer's keys are replaced one by one; those that the new call has not stay, and so do ours."""
    from pipeline.credentials import issue

    job_id = issue("c1", document(1), metadata={"a": 1, "b": {"x": 1, "y": 2}, "c": 3})
    finish("c1")
    again = issue("c1", document(1), metadata={"a": None, "b": {"x": 5}, "d": 4})
    assert again == job_id
    found = metadata_of("c1")
    assert found["blockchain_status"] == "confirmed"
    assert {key: found[key] for key in "abcd"} == {"a": None, "b": {"x": 5}, "c": 3, "d": 4}


def test_issued_anew_with_other_content(client: Any) -> None:
    """After the first is through: document, hash and CID are the new ones, the status is pending."""
    from pipeline.credentials import issue

    first = issue("c1", document(1), ipfs_cid=CID)
    finish("c1")
    assert issue("c1", document(2)) != first
    row = Credential.get_by_id("c1")
    assert load_document(row.document) == document(2)
    assert (row.data_hash, row.ipfs_cid) == (document_hash(document(2)), None)
    assert metadata_of("c1") == {"blockchain_status": "pending"}


NUMBERS = [1e21, -0.0, 5e-324, 1e-7, 0.1 + 0.2, 2**53 - 1, 1.7976931348623157e308]


def test_documents_keep_their_hash(client: Any) -> None:
    """What a database would round or respell comes back with the same RFC 8785 form."""
    from pipeline.credentials import sync

    text = {"z": "ü\u2028€😀", "a": [None, True, {"": ""}]}
    issued = {f"c{position}": {"n": number, **text} for position, number in enumerate(NUMBERS)}
    sync({"credential_id": id_, "document": content} for id_, content in issued.items())
    found = verification.begin([write.id for write in writes()])
    assert len(found) == len(NUMBERS)
    for write in found:
        assert write.document is not None
        stored = document_hash(load_document(write.document))
        assert stored == document_hash(issued[write.credential_id]) == write.data_hash


def test_a_document_that_another_program_wrote(client: Any) -> None:
    """White space, key order and spelling are its own; text is kept as it is."""
    text = '{ "z": 1.0E2,\n "n":1e21, "m":-0.0, "d": 5e-324 }'
    insert_row("c1", document=text)
    client.write_to_blockchain_queued("c1", document_hash(load_document(text)))
    [write] = verification.begin([writes()[0].id])
    assert write.document == text


def test_no_document(client: Any) -> None:
    """Rows moved from an older system: queued by their hash alone, known to verification as such."""
    from pipeline.credentials import issue

    insert_row("old", data_hash=HASH)
    client.write_to_blockchain_queued("old", HASH)
    issue("new", None, data_hash=OTHER_HASH)
    found = {write.credential_id: write for write in verification.begin([w.id for w in writes()])}
    assert (found["old"].document, found["old"].credential_hash) == (None, HASH)
    assert (found["new"].document, found["new"].credential_hash) == (None, OTHER_HASH)


def test_mixed_documents_in_one_sync(client: Any) -> None:
    """With and without document, CID, metadata and priority, in one statement."""
    from pipeline.credentials import sync

    sync(
        [
            {"credential_id": "a", "data_hash": HASH},
            {"credential_id": "b", "document": document(1), "metadata": {"k": 1}, "priority": "urgent"},
            {"credential_id": "c", "document": document(2), "ipfs_cid": CID},
        ]
    )
    rows = {row.id: row for row in Credential.select()}
    assert rows["a"].document is None
    assert load_document(rows["b"].document) == document(1)
    assert rows["c"].ipfs_cid == CID
    assert [write.priority for write in writes()] == ["normal", "urgent", "normal"]

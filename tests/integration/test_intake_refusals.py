"""Promise: what is handed in is kept whole and in its order, or refused to the caller with nothing of it
kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.errors import (
    CidMismatch,
    ConflictingWrite,
    HashMismatch,
    InvalidCid,
    InvalidCredentialId,
    InvalidDataHash,
    InvalidDocument,
    InvalidInput,
    InvalidPriority,
    UnknownCredential,
)
from pipeline.hashing import load_document
from pipeline.models import Credential
from pipeline.settings import get_settings
from tests.intake import CID, HASH, OTHER_CID, OTHER_HASH, WAYS, messages, metadata_of, queue_by, writes
from tests.issuer import document


def test_many_in_order(client: Any, redis_url: str) -> None:
    """Job ids in the order of the input, over several chunks; a message a chunk, not one each."""
    numbers = list(range(1200))
    for start in range(0, 1200, 400):
        rows = [{"id": f"c{n}", "metadata": "{}"} for n in numbers[start : start + 400]]
        Credential.insert_many(rows).execute()
    jobs = client.write_many_to_blockchain_queued((f"c{n}", f"{n:064x}") for n in reversed(numbers))
    found = {write.job_id: write.credential_id for write in writes()}
    assert [found[job_id] for job_id in jobs] == [f"c{n}" for n in reversed(numbers)]
    assert len(messages(redis_url)) == 2


def test_one_unknown_among_many(client: Any, credential: str, redis_url: str) -> None:
    """Nothing of the list is stored or sent."""
    with pytest.raises(UnknownCredential, match="'nobody'"):
        client.write_many_to_blockchain_queued([(credential, HASH), ("nobody", HASH)])
    assert writes() == []
    assert metadata_of(credential) == {}
    assert messages(redis_url) == []


def test_one_conflict_among_many(client: Any, credential: str, redis_url: str) -> None:
    """The same, in whichever chunk it is."""
    Credential.insert_many([{"id": f"x{n}", "metadata": "{}"} for n in range(600)]).execute()
    client.write_to_blockchain_queued(credential, HASH)
    with pytest.raises(ConflictingWrite, match="'c1'"):
        client.write_many_to_blockchain_queued(
            [*((f"x{n}", HASH) for n in range(600)), (credential, OTHER_HASH)]
        )
    assert len(writes()) == 1
    assert metadata_of("x0") == {}


def test_sync_is_all_or_nothing(client: Any, redis_url: str) -> None:
    """A bad item: its position is named, and no credential of the list is stored."""
    from pipeline.credentials import sync

    good = {"credential_id": "c1", "document": document(1)}
    with pytest.raises(HashMismatch, match=r"items\[1\]"):
        sync([good, {"credential_id": "c2", "document": document(2), "data_hash": HASH}])
    assert Credential.select().count() == 0
    assert messages(redis_url) == []


def test_issue_conflict_stores_nothing(client: Any) -> None:
    """The pending write's document is not replaced under its feet."""
    from pipeline.credentials import issue

    issue("c1", document(1), metadata={"a": 1})
    with pytest.raises(ConflictingWrite):
        issue("c1", document(2), metadata={"a": 2})
    row = Credential.get_by_id("c1")
    assert load_document(row.document) == document(1)
    assert metadata_of("c1") == {"a": 1, "blockchain_status": "pending"}


def test_twice_in_one_sync_with_different_content(client: Any) -> None:
    """Which of the two is meant nobody can know."""
    from pipeline.credentials import sync

    with pytest.raises(ConflictingWrite, match="twice"):
        sync([{"credential_id": "c1", "document": document(n)} for n in range(2)])
    assert Credential.select().count() == 0


BAD = [
    ("", HASH, None, InvalidCredentialId),
    ("x" * 256, HASH, None, InvalidCredentialId),
    ("a\nb", HASH, None, InvalidCredentialId),
    (7, HASH, None, InvalidCredentialId),
    ("c1", HASH[:-1], None, InvalidDataHash),
    ("c1", "g" * 64, None, InvalidDataHash),
    ("c1", None, None, InvalidDataHash),
    ("c1", HASH, "no CID", InvalidCid),
    ("nobody", HASH, None, UnknownCredential),
]


@pytest.mark.parametrize("way", WAYS)
def test_bad_input_reaches_the_caller(credential: str, redis_url: str, way: str) -> None:
    """Every way raises the same errors, before anything is stored or sent."""
    for credential_id, data_hash, cid, error in BAD:
        with pytest.raises(error):
            queue_by(way, credential_id, data_hash, cid)
    assert writes() == []
    assert messages(redis_url) == []
    assert metadata_of(credential) == {}


@pytest.mark.parametrize(
    "delay", [-1, 10**15, float("nan"), float("inf"), "1000", True, timedelta(days=-1), timedelta(days=400)]
)
def test_bad_delays(client: Any, credential: str, delay: Any) -> None:
    """Less than nothing, more than a year, or no number: no list has to show such a time."""
    from pipeline.actors import hash_verify

    with pytest.raises(InvalidInput, match="delay"):
        hash_verify.send_with_options(args=(credential, HASH), delay=delay)
    assert writes() == []


def test_bad_priority(client: Any, credential: str) -> None:
    """Only two are known."""
    with pytest.raises(InvalidPriority):
        client.write_to_blockchain_queued(credential, HASH, priority="high")
    assert writes() == []


BAD_DOCUMENTS: list[Any] = [
    {"n": float("nan")},
    {"n": 2**53},
    {"s": "\ud800"},
    {"s": "\u0000"},
    [],
    {"s": "x" * (1024 * 1024)},
]


def test_bad_documents(client: Any) -> None:
    """Refused to the caller; no credential is stored."""
    from pipeline.credentials import issue

    for bad in BAD_DOCUMENTS:
        with pytest.raises(InvalidDocument):
            issue("c1", bad)
    assert Credential.select().count() == 0


def test_bad_metadata(client: Any) -> None:
    """Above all, nobody but the pipeline says that something is confirmed."""
    from pipeline.credentials import issue

    bad: Any
    for bad in ({"blockchain_status": "confirmed"}, [], {"n": float("inf")}):
        with pytest.raises(InvalidInput, match="metadata"):
            issue("c1", document(1), metadata=bad)
    assert Credential.select().count() == 0


def test_cid_digest_check(client: Any, credential: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw CID of other content is taken, or refused when the setting says so."""
    monkeypatch.setenv("CID_DIGEST_CHECK", "true")
    get_settings.cache_clear()
    with pytest.raises(CidMismatch):
        client.write_to_blockchain_queued(credential, HASH, CID)
    assert writes() == []
    client.write_to_blockchain_queued(credential, HASH, OTHER_CID)

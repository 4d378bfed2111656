"""Promise: a row that no other program should have written does not keep the rest from going on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pipeline.database import database
from pipeline.errors import InvalidDocument
from pipeline.hashing import load_document
from pipeline.intake import WriteRequest
from pipeline.ledger import batches, joining, metadata, queueing, verification
from pipeline.ledger.confirmation import confirm_many
from pipeline.models import Batch, Credential, State, Write
from tests.databases import on_sqlite, use_url

#: All is JSON, as PostgreSQL's type json understands it; nothing here is jsonb.
OWN_METADATA = (
    r'{"own": "a\u0000b", "half": "\ud800", "n": 1e400, "big": 12345678901234567890.10, '
    r'"blockchain_error": "old"}'
)


@pytest.fixture(params=["json", "text"])
def own_table(
    request: pytest.FixtureRequest, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The issuer's table, whose metadata are of the type json or text."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE credentials (id TEXT PRIMARY KEY, document JSON, data_hash TEXT, ipfs_cid TEXT, "
            f"metadata {request.param}, created_at TIMESTAMPTZ DEFAULT now(), "
            "updated_at TIMESTAMPTZ DEFAULT now())"
        )
    use_url(postgres_url, monkeypatch)
    yield
    database.close_all()


def stored_metadata() -> dict[str, str]:
    """The text of each credential's metadata."""
    return dict(database.execute_sql("SELECT id, metadata::text FROM credentials").fetchall())


def queue(*names: str) -> list[int]:
    """Queue a write for each; returns their ids."""
    return [
        queued.write_id for queued in queueing.queue([WriteRequest.of(name, "ab" * 32) for name in names])
    ]


@pytest.mark.parametrize("size", [1, 10])
def test_metadata_that_are_no_jsonb(own_table: None, size: int) -> None:
    """A row with ``\\u0000`` passes as all others do, and what the issuer has in it stays as it was."""
    for name, text in {"c0": '{"own": 1}', "c1": OWN_METADATA, "c2": None, "c3": "[1]"}.items():
        Credential.insert(id=name, metadata=text).execute()
    ids = queue("c0", "c1", "c2", "c3")
    assert all('"pending"' in text for text in stored_metadata().values())
    verification.begin(ids)
    joining.join(ids, [], lane="normal", max_size=size, linger_seconds=0)
    made = [row.id for row in Batch.select(Batch.id)]
    assert sorted(batches.submit_mock_many(made)) == sorted(made)
    assert len(confirm_many(made)) == 4
    found = stored_metadata()
    assert all('"confirmed"' in text for text in found.values())
    for part in (r'"own": "a\u0000b"', r'"half": "\ud800"', '"n": 1e400', '"big": 12345678901234567890.10'):
        assert part in found["c1"]
    assert "blockchain_error" not in found["c1"]
    assert '"own": 1' in found["c0"]


def test_metadata_that_nobody_can_read(own_table: None, request: pytest.FixtureRequest) -> None:
    """Count as none, as they do on SQLite."""
    if request.node.callspec.params["own_table"] == "json":
        Credential.insert(id="c0", metadata=r'"\u0000"').execute()
    else:
        Credential.insert(id="c0", metadata="{no JSON").execute()
    metadata.mark_failed(["c0"], "why")
    assert stored_metadata() == {"c0": '{"blockchain_status": "failed", "blockchain_error": "why"}'}


GOOD_DOCUMENT = '{"a":"é"}'
BAD_UTF8 = "CAST(x'7b2261223a22ff227d' AS TEXT)"


@on_sqlite
def test_a_document_that_is_no_utf8_fails_alone(ledger: str) -> None:
    """Other programs can store such TEXT in SQLite. The good ones of the same message go on."""
    Credential.insert(id="good", document=GOOD_DOCUMENT).execute()
    database.execute_sql(f"INSERT INTO credentials (id, document) VALUES ('bad', {BAD_UTF8})")
    good, bad = verification.begin(queue("good", "bad"))
    assert good.document == GOOD_DOCUMENT
    assert bad.document is not None
    with pytest.raises(InvalidDocument) as caught:
        load_document(bad.document)
    assert caught.value.message.isascii()


@on_sqlite
@pytest.mark.parametrize("column", ["document", "data_hash", "metadata"])
def test_text_that_is_no_utf8_keeps_nobody_waiting(client: Any, column: str) -> None:
    """Wherever in its row it is, the credential beside it is verified."""
    from pipeline.verification import verify

    Credential.insert(id="good").execute()
    database.execute_sql(f"INSERT INTO credentials (id, {column}) VALUES ('bad', {BAD_UTF8})")
    verify(queue("bad", "good"))
    states = dict(Write.select(Write.credential_id, Write.state).tuples())
    assert states["good"] == State.VERIFIED
    assert states["bad"] == (State.VERIFIED if column == "metadata" else State.FAILED)

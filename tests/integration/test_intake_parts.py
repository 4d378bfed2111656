"""Promise: a list that is stored in parts is one list: all or nothing, with the errors of a whole."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from pipeline.database import database
from pipeline.errors import ConflictingWrite, InvalidDataHash, UnknownCredential
from pipeline.ledger import counts, fresh
from pipeline.merkle import leaf_hash
from tests.databases import on_postgresql
from tests.intake import CID, HASH, OTHER_HASH, PREPARED_AFTER, messages, metadata_of, requests, writes
from tests.racing import in_threads

#: The place of what is wrong: in the last of three parts, the first two of which are with the server.
LATER = 2 * fresh.PART + 3


def handed_in(changed: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
    """Items for three parts, one of them ``changed``."""
    items: list[tuple[Any, ...]] = [(r.credential_id, r.data_hash, CID) for r in requests(LATER + 5)]
    if changed is not None:
        items[LATER] = changed
    return items


def nothing_is_stored(redis_url: str) -> bool:
    """And nobody can tell that it was begun."""
    return not writes() and not messages(redis_url) and metadata_of("c0") == {} == metadata_of("c1")


def test_an_item_of_a_later_part_is_wrong(client: Any, redis_url: str) -> None:
    """The error names its place in the whole list."""
    with pytest.raises(InvalidDataHash, match=rf"items\[{LATER}\]: "):
        client.write_many_to_blockchain_queued(handed_in(("c1", "no hash")))
    assert nothing_is_stored(redis_url)


def test_what_is_wrong_goes_before_what_is_unknown(client: Any, redis_url: str) -> None:
    """As it does in a list that is one part: the database is asked for what may be stored."""
    items = handed_in(("c1", "no hash"))
    items[0] = ("unknown", HASH)
    with pytest.raises(InvalidDataHash):
        client.write_many_to_blockchain_queued(items)
    assert nothing_is_stored(redis_url)


def test_a_credential_of_a_later_part_is_unknown(client: Any, redis_url: str) -> None:
    """All or nothing."""
    with pytest.raises(UnknownCredential, match="'unknown'"):
        client.write_many_to_blockchain_queued(handed_in(("unknown", HASH)))
    assert nothing_is_stored(redis_url)


def test_a_credential_of_a_later_part_has_another_write(client: Any) -> None:
    """All or nothing but that."""
    items = handed_in()
    client.write_to_blockchain_queued(items[LATER][0], OTHER_HASH)
    with pytest.raises(ConflictingWrite):
        client.write_many_to_blockchain_queued(items)
    assert len(writes()) == 1


def test_one_comes_in_two_parts(client: Any, redis_url: str) -> None:
    """It is one job, as everywhere."""
    items = handed_in()
    items[LATER] = items[0]
    jobs = client.write_many_to_blockchain_queued(items)
    assert jobs[LATER] == jobs[0]
    assert len(set(jobs)) == len(writes()) == len(items) - 1
    assert counts.read()["waiting"] == len(items) - 1


def test_parts_within_a_transaction_of_the_issuer(client: Any, redis_url: str) -> None:
    """They are its own, and go back with it."""
    items = handed_in()
    with database.atomic() as mine:
        client.write_many_to_blockchain_queued(items)
        mine.rollback()
    assert nothing_is_stored(redis_url)
    with database.atomic():
        jobs = client.write_many_to_blockchain_queued(items)
    assert [write.job_id for write in writes()] == jobs


def test_parts_are_as_one_statement(client: Any) -> None:
    """Each column, and none without a CID."""
    items = [(item[0], item[1], None if n % 2 else CID, "urgent") for n, item in enumerate(handed_in())]
    client.write_many_to_blockchain_queued(items[: fresh.PART + 1])
    for number, (item, write) in enumerate(zip(items, writes(), strict=False)):
        assert (write.credential_id, write.data_hash, write.ipfs_cid, write.priority) == item
        leaf = leaf_hash(item[0], bytes.fromhex(item[1]), item[2] or "", bytes(write.salt))
        assert bytes(write.leaf) == leaf, number
        assert (write.state, write.attempts, write.own_message, write.due_at) == ("queued", 0, False, None)
    assert len({bytes(write.salt) for write in writes()}) == fresh.PART + 1


@on_postgresql
@pytest.mark.parametrize("before", range(PREPARED_AFTER + 1))
def test_a_connection_after_parts_that_failed(client: Any, before: int) -> None:
    """It takes the next list, whatever the driver thinks that it has prepared of the ``before`` ones."""
    names = iter([(request.credential_id, request.data_hash) for request in requests(9 * fresh.PART)])
    bad = [*islice(names, 7 * fresh.PART)]
    bad[fresh.PART] = ("unknown", HASH)
    for items in (bad, bad, *(list(islice(names, 2)) for _ in range(before)), bad):
        if len(items) == 2:
            client.write_many_to_blockchain_queued(items)
            continue
        with pytest.raises(UnknownCredential):
            client.write_many_to_blockchain_queued(items)
    assert len(client.write_many_to_blockchain_queued(list(islice(names, 2)))) == 2


@on_postgresql
def test_lists_that_cross(ledger: str, client: Any) -> None:
    """Two hand in the same the other way round, at once: neither is refused for the other's locks."""
    items = handed_in()
    found = in_threads(2, lambda number: client.write_many_to_blockchain_queued(items[:: 1 - 2 * number]))
    assert found[0] == found[1][::-1]
    assert len(writes()) == len(items)

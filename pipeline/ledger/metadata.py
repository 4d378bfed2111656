"""What a credential's own row says of its write: the keys ``blockchain_*`` in its metadata.

All other keys belong to the issuer and stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import peewee as pw

from pipeline.database import database, is_sqlite
from pipeline.ledger.fixed import Fixed, any_of
from pipeline.ledger.sql import chunks, locked, rows, text_of
from pipeline.models import Credential, utc_now

#: The column as it is, or an empty object: other programs may have stored anything.
SQLITE_OBJECT = (
    "CASE WHEN json_valid(credentials.metadata) THEN "
    "CASE json_type(credentials.metadata) WHEN 'object' THEN credentials.metadata ELSE '{}' END ELSE '{}' END"
)
POSTGRESQL_OBJECT = (
    "CASE jsonb_typeof(credentials.metadata::jsonb) "
    "WHEN 'object' THEN credentials.metadata::jsonb ELSE '{}'::jsonb END"
)

#: With fewer credentials than this in each place, the places share a statement.
FEW = 20

#: Takes all keys of an earlier write away.
PENDING: Mapping[str, Any] = {
    "blockchain_status": "pending",
    "blockchain_error": None,
    "blockchain_transaction_hash": None,
    "blockchain_block_number": None,
    "blockchain_confirmed_at": None,
}


def mark_pending(credential_ids: Sequence[str]) -> None:
    """Say that a write is on its way."""
    _merge(credential_ids, PENDING)


def mark_failed(credential_ids: Sequence[str], error: str) -> None:
    """Say that the write has failed, and why, in one line."""
    _merge(credential_ids, {**PENDING, "blockchain_status": "failed", "blockchain_error": error})


@dataclass(frozen=True, slots=True)
class Place:
    """Where credentials are anchored: transaction hash and block number, None for a mock write."""

    transaction_hash: str | None
    block_number: int | None
    credential_ids: Sequence[str]


def mark_confirmed(
    credential_ids: Sequence[str],
    *,
    transaction_hash: str | None,
    block_number: int | None,
    confirmed_at: float,
) -> None:
    """Say where the credential is anchored, and since when, in seconds since 1970.

    Hash and number are None for a mock write.
    """
    place = Place(transaction_hash, block_number, credential_ids)
    _merge(credential_ids, _confirmed(place, confirmed_at))


def mark_confirmed_at(places: Sequence[Place], *, confirmed_at: float, plain: bool = False) -> None:
    """The same for the credentials of several places, which share a statement if each has few.

    ``plain``: of metadata that PostgreSQL's jsonb does not take a `peewee.DataError` is raised, and the
    transaction is lost; to be prepared for it takes two more round trips.
    """
    values = [_confirmed(place, confirmed_at) for place in places]
    count = sum(len(place.credential_ids) for place in places)
    if not is_sqlite() and count < FEW * len(places):
        named = zip(places, values, strict=True)
        patches = [(id_, own) for place, own in named for id_ in place.credential_ids]
        for part in chunks(patches):
            _merge_each(part, plain=plain)
        return
    for place, own in zip(places, values, strict=True):
        _merge(place.credential_ids, own, plain=plain)


def _confirmed(place: Place, confirmed_at: float) -> Mapping[str, Any]:
    return {
        "blockchain_status": "confirmed",
        "blockchain_error": None,
        "blockchain_transaction_hash": place.transaction_hash,
        "blockchain_block_number": place.block_number,
        "blockchain_confirmed_at": datetime.fromtimestamp(confirmed_at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
    }


def forget_error(credential_id: str, code: str, instead: str) -> None:
    """Where it says that the write has failed with the error ``code``, say ``instead`` of its message."""
    query = Credential.select(text_of(Credential.metadata)).where(Credential.id == credential_id)
    for (text,) in rows(query):
        if str(read_object(text).get("blockchain_error")).startswith(f"{code}: "):
            mark_failed([credential_id], f"{code}: {instead}")


def read_object(text: str | None) -> dict[str, Any]:
    """The object in ``text``, or an empty one: other programs may have stored anything."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _merge(credential_ids: Sequence[str], values: Mapping[str, Any], *, plain: bool = False) -> None:
    for part in chunks(credential_ids):
        try:
            with nullcontext() if plain else database.atomic():
                kept, gone = _kept_and_gone(values)
                _merge_same(list(part), kept, gone, utc_now())
        except pw.DataError:
            if plain:
                raise
            _merge_texts(part, values)


_merge_same = Fixed(
    lambda ids, kept, gone, now: Credential.update(metadata=_merged(kept, gone), updated_at=now).where(
        any_of(Credential.id, ids)
    )
)


def _merge_each(patches: Sequence[tuple[str, Mapping[str, Any]]], *, plain: bool) -> None:
    """`_merge` on PostgreSQL, with values of its own for each credential, all of the same keys."""
    kept = [
        json.dumps({key: value for key, value in values.items() if value is not None})
        for _, values in patches
    ]
    new = pw.SQL("unnest(%s::text[], %s::jsonb[]) AS new(id, kept)", [[id_ for id_, _ in patches], kept])
    merged = pw.SQL(f"({POSTGRESQL_OBJECT} - %s::text[]) || new.kept", [list(patches[0][1])])
    try:
        with nullcontext() if plain else database.atomic():
            Credential.update(metadata=merged, updated_at=utc_now()).from_(new).where(
                Credential.id == pw.SQL("new.id")
            ).execute()
    except pw.DataError:
        if plain:
            raise
        for id_, values in patches:
            _merge_texts([id_], values)


def _merge_texts(credential_ids: Sequence[str], values: Mapping[str, Any]) -> None:
    """As `_merge`, where the issuer's own column holds what PostgreSQL's jsonb does not take.

    Its type json takes ``\\u0000`` and lone surrogates; text takes anything.
    """
    query = Credential.select(Credential.id, text_of(Credential.metadata)).where(
        Credential.id.in_(credential_ids)
    )
    for credential_id, text in rows(locked(query.order_by(Credential.id))):
        Credential.update(metadata=merged_text(text, values), updated_at=utc_now()).where(
            Credential.id == credential_id
        ).execute()


def merged_text(text: str | None, values: Mapping[str, Any]) -> str:
    """The JSON object in ``text`` with ``values`` merged in; None takes a key out.

    The numbers in it stay as they are written. What is no JSON object counts as an empty one.
    """
    mark = uuid4().hex  # stands before each number, which passes as a string
    try:
        own = json.loads(
            text or "{}", parse_int=mark.__add__, parse_float=mark.__add__, parse_constant=mark.__add__
        )
    except (ValueError, RecursionError):
        own = {}
    merged = {**(own if isinstance(own, dict) else {}), **values}
    kept = {key: value for key, value in merged.items() if value is not None or key not in values}
    return re.sub(f'"{mark}([^"]*)"', r"\1", json.dumps(kept))


def _kept_and_gone(values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What is merged in, and the keys that are taken out; SQLite takes out what is null in the first."""
    if is_sqlite():
        return json.dumps(values), []
    kept = json.dumps({key: value for key, value in values.items() if value is not None})
    return kept, [key for key, value in values.items() if value is None]


def _merged(kept: Any, gone: Any) -> pw.Node:
    """`Credential.metadata` with ``kept`` merged in, and without the keys in ``gone``."""
    if is_sqlite():
        return pw.SQL(f"json_patch({SQLITE_OBJECT}, ?)", [kept.value])
    return pw.SQL(f"({POSTGRESQL_OBJECT} - %s::text[]) || %s::jsonb", [gone.value, kept.value])

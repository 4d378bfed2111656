"""What may enter: checked in one place, before anything is stored or queued.

`WriteRequest` is what the queue takes, `CredentialRecord` what ``issue``, ``sync`` and
``enqueue`` take. Errors name the field, the value (shortened, escaped) and the rule; of a
document they never name a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from pipeline import hashing, strict_json
from pipeline.cid import parse_cid
from pipeline.errors import (
    CidMismatch,
    HashMismatch,
    InvalidCredentialId,
    InvalidDataHash,
    InvalidInput,
    InvalidPriority,
)
from pipeline.strict_json import JsonFault

Priority = Literal["urgent", "normal"]

#: In characters.
MAX_CREDENTIAL_ID_LENGTH = 255
#: A year.
MAX_DELAY_MS = 365 * 86_400_000
#: As JSON in UTF-8.
MAX_METADATA_BYTES = 64 * 1024
#: A line with the largest document, were each of its characters a six-character escape.
MAX_LINE_BYTES = 6 * hashing.MAX_DOCUMENT_BYTES + 1024 * 1024
#: An error shows no more of a value, in characters.
MAX_SHOWN = 80

#: The keys in a credential's metadata that say what became of its write.
OWN_METADATA_KEYS: Final = frozenset(
    {
        "blockchain_status",
        "blockchain_error",
        "blockchain_transaction_hash",
        "blockchain_block_number",
        "blockchain_confirmed_at",
    }
)

#: Category Cc (C0, DEL, C1), and the halves of surrogate pairs, which are no characters.
_FORBIDDEN_IN_ID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DATA_HASH = re.compile("(?:0x)?([0-9A-Fa-f]{64})")

_WRITE_FIELDS = ("credential_id", "data_hash", "ipfs_cid", "priority")
_RECORD_FIELDS = ("credential_id", "document", "data_hash", "ipfs_cid", "metadata", "priority")


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A checked request for one write; ``data_hash`` is 64 lower-case hex digits without ``0x``."""

    credential_id: str
    data_hash: str
    ipfs_cid: str | None = None
    priority: Priority = "normal"
    #: The CID is raw SHA-256 and its digest is not ``data_hash``: worth a line in the log.
    cid_digest_differs: bool = field(default=False, compare=False)

    @classmethod
    def of(
        cls,
        credential_id: object,
        data_hash: object,
        ipfs_cid: object = None,
        *,
        priority: object = "normal",
        cid_digest_check: bool = False,
    ) -> WriteRequest:
        """Check the parts; an ``ipfs_cid`` of ``""`` is none.

        Raises `InvalidCredentialId`, `InvalidDataHash`, `InvalidCid`, `InvalidPriority`, and with
        ``cid_digest_check`` `CidMismatch`.
        """
        id_ = check_credential_id(credential_id)
        hash_ = check_data_hash(data_hash)
        cid, differs = _check_cid(ipfs_cid, hash_, refuse=cid_digest_check)
        return cls(id_, hash_, cid, check_priority(priority), differs)

    @classmethod
    def from_item(
        cls, item: object, position: int, *, priority: object = "normal", cid_digest_check: bool = False
    ) -> WriteRequest:
        """Check one item of a list: ``(credential_id, data_hash[, ipfs_cid[, priority]])`` or a mapping.

        Raises as `of` does, with ``items[position]`` before the message, and `InvalidInput` for
        another shape or an unknown key. An item's own priority goes before ``priority``.
        """
        try:
            return cls._from_item(item, priority, cid_digest_check)
        except InvalidInput as exc:
            raise _at(position, exc) from None

    @classmethod
    def _from_item(cls, item: object, priority: object, cid_digest_check: bool) -> WriteRequest:
        if isinstance(item, tuple | list) and 2 <= len(item) <= len(_WRITE_FIELDS):
            own = item[3] if len(item) > 3 else priority
            return cls.of(*item[:3], priority=own, cid_digest_check=cid_digest_check)
        if isinstance(item, Mapping):
            parts = _known_fields(item, _WRITE_FIELDS, required=("credential_id", "data_hash"))
            return cls.of(**{"priority": priority, **parts}, cid_digest_check=cid_digest_check)
        raise InvalidInput(
            f"{_shown(item)}: must be a mapping, or a tuple of 2 to {len(_WRITE_FIELDS)}: "
            + ", ".join(_WRITE_FIELDS)
        )


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A checked credential, to be stored and queued.

    ``document_text`` is the JSON to be stored (None: anchored by its hash alone), ``data_hash``
    the document's, or the one that was handed in: 64 lower-case hex digits without ``0x``.
    """

    credential_id: str
    document_text: str | None = field(repr=False)
    data_hash: str
    ipfs_cid: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    priority: Priority = "normal"
    #: As in `WriteRequest`.
    cid_digest_differs: bool = field(default=False, compare=False)

    @classmethod
    def of(
        cls,
        credential_id: object,
        document: object,
        *,
        data_hash: object = None,
        ipfs_cid: object = None,
        metadata: object = None,
        priority: object = "normal",
        cid_digest_check: bool = False,
    ) -> CredentialRecord:
        """Check the parts; there must be a document (a JSON object), a data hash, or both.

        Raises what `WriteRequest.of` does, `InvalidDocument`, `HashMismatch` when the hash is not
        the document's, and `InvalidInput` for the metadata or when there is neither.
        """
        id_ = check_credential_id(credential_id)
        text, hash_ = _check_document(id_, document, data_hash)
        cid, differs = _check_cid(ipfs_cid, hash_, refuse=cid_digest_check)
        own = check_metadata(metadata)
        return cls(id_, text, hash_, cid, own, check_priority(priority), differs)

    @classmethod
    def from_mapping(cls, item: object, *, cid_digest_check: bool = False) -> CredentialRecord:
        """Check a mapping with the parts as keys; null is as good as left out.

        Raises as `of` does, and `InvalidInput` for what is no mapping or has an unknown key.
        """
        if not isinstance(item, Mapping):
            raise InvalidInput(f"{_shown(item)}: must be an object with {', '.join(_RECORD_FIELDS)}")
        parts = _known_fields(item, _RECORD_FIELDS, required=("credential_id",))
        given = {name: value for name, value in parts.items() if value is not None}
        document = given.pop("document", None)
        return cls.of(given.pop("credential_id", None), document, **given, cid_digest_check=cid_digest_check)

    @classmethod
    def from_item(cls, item: object, position: int, *, cid_digest_check: bool = False) -> CredentialRecord:
        """`from_mapping` for one item of a list, with ``items[position]`` before the message."""
        try:
            return cls.from_mapping(item, cid_digest_check=cid_digest_check)
        except InvalidInput as exc:
            raise _at(position, exc) from None

    @classmethod
    def from_line(cls, text: str | bytes, *, cid_digest_check: bool = False) -> CredentialRecord:
        """Check a line of JSON (bytes are UTF-8). Raises as `from_mapping` does, also for what is no JSON."""
        try:
            item = strict_json.read(text, max_bytes=MAX_LINE_BYTES)
        except JsonFault as fault:
            raise InvalidInput(f"the line {str(fault).removeprefix('$ ')}") from None
        return cls.from_mapping(item, cid_digest_check=cid_digest_check)

    @property
    def request(self) -> WriteRequest:
        """The write of this credential."""
        return WriteRequest(
            self.credential_id, self.data_hash, self.ipfs_cid, self.priority, self.cid_digest_differs
        )


def check_delay(value: object) -> int | None:
    """Milliseconds of a delay, which is a number of them or a `timedelta`; None for none.

    Raises `InvalidInput` for less than 0, more than a year, or what is no number.
    """
    if value is None:
        return None
    number = value.total_seconds() * 1000 if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MAX_DELAY_MS:
        shown = str(value)[:40]
        raise InvalidInput(f"delay {shown!r}: must be a number of milliseconds from 0 to {MAX_DELAY_MS}")
    return int(number)


def check_credential_id(value: object) -> str:
    """``value``, when it is a str of 1 to 255 characters without control characters.

    Raises `InvalidCredentialId`.
    """
    if not isinstance(value, str):
        fault = "must be a str"
    elif not value:
        fault = "must not be empty"
    elif len(value) > MAX_CREDENTIAL_ID_LENGTH:
        fault = f"has {len(value)} characters, {MAX_CREDENTIAL_ID_LENGTH} are allowed"
    elif found := _FORBIDDEN_IN_ID.search(value):
        what = "a lone surrogate" if found[0] >= "\ud800" else "a control character"
        fault = f"has {what}, U+{ord(found[0]):04X}, at position {found.start()}"
    else:
        return value
    raise InvalidCredentialId(f"credential id {_shown(value)}: {fault}")


def check_data_hash(value: object) -> str:
    """The 64 hex digits of a data hash in lower case, without ``0x``. Raises `InvalidDataHash`."""
    if not isinstance(value, str):
        fault = "is not a str"
    elif found := _DATA_HASH.fullmatch(value):
        return found[1].lower()
    else:
        digits = len(value.removeprefix("0x"))
        fault = f"has {digits} characters" if digits != 64 else "has other characters in it"
    raise InvalidDataHash(f"data hash {_shown(value)}: must be 64 hex digits, 0x is allowed; {fault}")


def check_priority(value: object) -> Priority:
    """``value``, when it is ``"urgent"`` or ``"normal"``. Raises `InvalidPriority`."""
    if value not in ("urgent", "normal"):
        raise InvalidPriority(f'priority {_shown(value)}: must be "urgent" or "normal"')
    return value


def check_metadata(value: object) -> dict[str, Any]:
    """``value`` when it is an object under the rules for documents, of at most 64 KiB; None is ``{}``.

    The keys in `OWN_METADATA_KEYS` are refused: only the pipeline says what became of a write.
    Raises `InvalidInput`.
    """
    if value is None:
        return {}
    try:
        strict_json.check(value)
        if not isinstance(value, dict):
            raise JsonFault(f"is of type {type(value).__name__}, not an object (dict)")
        if strict_json.size_bytes(strict_json.write(value)) > MAX_METADATA_BYTES:
            raise strict_json.too_large(MAX_METADATA_BYTES)
    except JsonFault as fault:
        raise InvalidInput(f"metadata: {fault}") from None
    if taken := sorted(OWN_METADATA_KEYS & value.keys()):
        raise InvalidInput(f"metadata: only the pipeline sets {', '.join(taken)}")
    return dict(value)


def credential_id_in(line: str | bytes) -> str | None:
    """The credential id of a line that was refused, where one can be made out; for reports."""
    try:
        item = strict_json.read(line, max_bytes=MAX_LINE_BYTES)
        return check_credential_id(item.get("credential_id")) if isinstance(item, dict) else None
    except (JsonFault, InvalidCredentialId):
        return None


def _check_document(credential_id: str, document: object, data_hash: object) -> tuple[str | None, str]:
    """The text to be stored, and the hash to be anchored."""
    claimed = check_data_hash(data_hash) if data_hash is not None else None
    if document is None:
        if claimed is None:
            raise InvalidInput(f"credential {_shown(credential_id)}: has neither a document nor a data hash")
        return None, claimed
    text = hashing.document_text(document)
    computed = hashing.checked_hash(document)
    if claimed not in (None, computed):
        raise HashMismatch(
            f"credential {_shown(credential_id)}: the document's hash is {computed}, not {claimed}"
        )
    return text, computed


def _check_cid(value: object, data_hash: str, *, refuse: bool) -> tuple[str | None, bool]:
    """The CID, and whether the digest in it is another than the data hash."""
    if value is None or value == "":
        return None, False
    cid = parse_cid(value)
    differs = cid.raw_sha256 not in (None, data_hash)
    if differs and refuse:
        raise CidMismatch(
            f"IPFS CID {_shown(cid.text)}: has the digest {cid.raw_sha256}, the data hash is {data_hash}"
        )
    return cid.text, differs


def _known_fields(
    item: Mapping[Any, Any], known: Sequence[str], *, required: Sequence[str]
) -> dict[str, Any]:
    unknown = [key for key in item if key not in known]
    if unknown:
        raise InvalidInput(f"unknown key {_shown(unknown[0])}; allowed are {', '.join(known)}")
    missing = [name for name in required if name not in item]
    if missing:
        raise InvalidInput(f"{' and '.join(missing)} must be there")
    return dict(item)


def _at(position: int, error: InvalidInput) -> InvalidInput:
    """The error of an item of a list; it begins with the place."""
    return type(error)(f"items[{position}]: {error}")


def _shown(value: object) -> str:
    """``value`` for an error: escaped and shortened; of what is no plain value only the type."""
    if isinstance(value, str):
        shown = repr(value[: MAX_SHOWN + 1])
    elif value is None or isinstance(value, bool | int | float):
        shown = repr(value) if not isinstance(value, int) or abs(value) < 10**MAX_SHOWN else "a large int"
    else:
        return f"of type {type(value).__name__}"
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 1] + "…"

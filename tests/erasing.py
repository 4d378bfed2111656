"""What is to be erased, brought to its end, and every place in which its bytes may be."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from pipeline import chain_writing, completion, verification
from pipeline.hashing import document_hash
from pipeline.models import Batch, BatchState, State, Write

#: What reads all of a key, by its type.
READERS: dict[bytes, Any] = {
    b"string": lambda client, key: client.get(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"hash": lambda client, key: client.hgetall(key),
    b"set": lambda client, key: client.smembers(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    b"stream": lambda client, key: client.xrange(key),
}


@dataclass(frozen=True)
class Secret:
    """What nobody may find afterwards: words of a document, and salts."""

    words: tuple[str, ...]
    salts: tuple[bytes, ...]

    def found_in(self, data: bytes) -> set[str]:
        """Which of them are in ``data``, salts as they are or as hex."""
        words = {word for word in self.words if word.encode() in data}
        return words | {
            f"salt {number}"
            for number, salt in enumerate(self.salts)
            if salt in data or salt.hex().encode() in data.lower()
        }

    def found_in_files(self, *paths: Path) -> set[str]:
        """Which of them are in any of these files, or of the files in these folders."""
        return set().union(*(self.found_in(data) for data in map(_content, _files(*paths))))

    def found_in_keys(self, client: redis.Redis) -> set[str]:
        """Which of them any key of Redis holds."""
        keys: Any = list(client.scan_iter("*"))
        values = (repr((key, READERS[client.type(key)](client, key))).encode() for key in keys)
        return set().union(*map(self.found_in, values))

    @property
    def all(self) -> set[str]:
        """The names of all."""
        return {*self.words, *(f"salt {number}" for number in range(len(self.salts)))}


def _files(*paths: Path) -> Iterator[Path]:
    for path in paths:
        yield from (found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # Redis has just replaced it
        return b""


def word() -> str:
    """One that is nowhere else."""
    return f"Ada {secrets.token_hex(8)}"


def send(credential_id: str, document: dict[str, Any]) -> str:
    """Issue a credential and have a message, and so a result, of its own; returns the job id."""
    from pipeline.actors import hash_verify
    from pipeline.credentials import issue

    job_id = issue(credential_id, document, metadata={"own": "key"})
    assert hash_verify.send(credential_id, document_hash(document)).message_id == job_id
    return job_id


def end_all() -> None:
    """Take all that is queued to its end by the stages themselves, in mock mode."""
    verification.verify([row.id for row in Write.select(Write.id).where(Write.state == State.QUEUED)])
    while chain_writing.write_next():
        pass
    for batch in list(Batch.select().where(Batch.state == BatchState.SETTLED)):
        completion.complete(batch.id)


def salts_of(credential_id: str) -> tuple[bytes, ...]:
    """Those of its writes that have one, the oldest first."""
    found = Write.select(Write.salt).where(Write.credential_id == credential_id, Write.salt.is_null(False))
    return tuple(bytes(write.salt) for write in found.order_by(Write.id))

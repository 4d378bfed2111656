"""The chain's key-value store, in one SQLite file: memory stays bounded, a kill loses nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eth.db.backends.base import BaseDB


class SqliteStore(BaseDB):
    """Bytes to bytes. Nothing is on disk until `commit`: a block is written whole or not at all.

    Not synced to disk at a commit: a crash of the machine may lose the last blocks, which is
    good enough for a development chain.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE IF NOT EXISTS node (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """Keep what was written since the last commit."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def __getitem__(self, key: bytes) -> bytes:
        row = self._db.execute("SELECT value FROM node WHERE key = ?", (bytes(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (bytes(key), bytes(value)))

    def __delitem__(self, key: bytes) -> None:
        if self._db.execute("DELETE FROM node WHERE key = ?", (bytes(key),)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        found = self._db.execute("SELECT 1 FROM node WHERE key = ?", (bytes(key),)).fetchone()
        return found is not None

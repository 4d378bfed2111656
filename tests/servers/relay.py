"""A relay before a server's Unix socket, which loses an answer: what was asked for is done all the same."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

#: Bytes that are read at once.
CHUNK = 65_536


class Relay:
    """Listens at ``path`` for what is meant for the server at ``target``."""

    def __init__(self, target: Path, path: Path) -> None:
        self.path = path
        self._target = target
        self._opened = ExitStack()
        self._to_lose: bytes | None = None
        self.lost = threading.Event()

    def lose_answer(self, command: bytes) -> None:
        """Cut the connection in place of the answer to the next request that has ``command`` in it."""
        self.lost.clear()
        self._to_lose = command

    def __enter__(self) -> Self:
        listener = self._open()
        listener.bind(str(self.path))
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    def _open(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        self._opened.callback(_end, made)
        return made

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                client, _ = listener.accept()
                self._opened.callback(_end, client)
                server = self._open()
                server.connect(str(self._target))
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
        except OSError:
            return  # it is over

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(CHUNK)
                    if not data:
                        raise ConnectionError
                    other[ready].sendall(data)
                    if ready is client and self._to_lose and self._to_lose in data:
                        self._to_lose = None
                        server.recv(CHUNK)
                        self.lost.set()
                        raise ConnectionError
        except (OSError, ValueError):
            _end(client)
            _end(server)


def _end(one: socket.socket) -> None:
    with suppress(OSError):  # it is no longer connected
        one.shutdown(socket.SHUT_RDWR)
    one.close()

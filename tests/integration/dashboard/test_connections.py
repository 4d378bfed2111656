"""Promise: connections that nothing comes of are closed, and keep nobody else out."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

from tests.browsing import Browser

#: Twice what is waited for, and more for a busy machine; seconds.
CLOSED_WITHIN_SECONDS = 40

BEGINNINGS = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "one answered, then half": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHo",
}


def test_silent_connections(open_dashboard: Browser) -> None:
    """Hundreds of them, and pages are served meanwhile; each is closed after a while."""
    address = urlsplit(open_dashboard.url)
    with ExitStack() as stack:
        connections = {}
        for name, beginning in BEGINNINGS.items():
            for number in range(100):
                connection = socket.create_connection((address.hostname, address.port))
                stack.enter_context(connection).sendall(beginning)
                connections[f"{name} {number}"] = connection
        assert open_dashboard.get("/").status_code == 200
        for name, connection in connections.items():
            connection.settimeout(CLOSED_WITHIN_SECONDS)
            assert is_closed(connection), name
    assert open_dashboard.get("/").status_code == 200


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it, whatever it says before. Raises `TimeoutError`."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    return True

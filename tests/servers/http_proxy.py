"""An HTTP server before a node that does what goes wrong with HTTP, request by request.

For faults of one JSON-RPC method, and for nodes that lag, see `tests.servers.fault_proxy`.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.anvil import Anvil

TOKEN = "abcdef0123456789"
#: Bodies that are no answer to a JSON-RPC request.
GARBAGE: dict[str, bytes] = {
    "HTML": b"<html>please log in</html>",
    "half of an object": b'{"jsonrpc": "2.0", "id": 0, "resu',
    "nothing": b"",
    "a number": b"5",
    "a string": b'"yes"',
    "null": b"null",
    "an object of other kind": b'{"hello": "world"}',
    "an error that is text": b'{"jsonrpc": "2.0", "id": 0, "error": "no"}',
    "an empty list": b"[]",
    "a list of numbers": b"[1, 2]",
    "no UTF-8": b"\xff\xfe",
    # Beyond Python's recursion limit, and within the stack where eth_account has raised that to 100,000.
    "nested too deeply": b"[" * 5_000 + b"]" * 5_000,
}


class Proxy:
    """An HTTP server before a node that does what `faults` say, one for each request, then behaves.

    Faults: ``cut`` (the node gets it, the answer is lost), ``half`` (so is the second half of the answer),
    ``refuse`` (closed unread), ``hang``, ``no batch``, an HTTP status, a status with headers, or a body.
    """

    def __init__(self, target: Anvil) -> None:
        self.target = target
        self.faults: list[Any] = []
        self.bodies: list[Any] = []
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """With a token in it."""
        return f"http://127.0.0.1:{self.port}/v3/{TOKEN}"

    @property
    def methods(self) -> list[str]:
        """What was asked, request by request."""
        return [one["method"] for body in self.bodies for one in (body if isinstance(body, list) else [body])]

    def next_fault(self) -> Any:
        """What to do to this request; None: pass it on."""
        return self.faults.pop(0) if self.faults else None

    def pass_on(self, body: bytes) -> bytes:
        """The node's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target.port)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        connection.close()
        return answer

    def hang(self) -> None:
        """Until the test ends."""
        self._released.wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_POST(self) -> None:
        fault = self.proxy.next_fault()
        if fault == "refuse":
            self._close()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.proxy.bodies.append(json.loads(body))
        if fault == "hang":
            self.proxy.hang()
            self._close()
        elif fault == "cut":
            self.proxy.pass_on(body)
            self._close()
        elif fault == "half":
            answer = self.proxy.pass_on(body)
            self._respond(200, answer[: len(answer) // 2], length=len(answer))
            self._close()
        elif fault == "no batch" and body.startswith(b"["):
            self._respond(
                200, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "batch?"}}'
            )
        elif isinstance(fault, int):
            self._respond(fault, b"oops")
        elif isinstance(fault, tuple):
            self._respond(fault[0], fault[2] if len(fault) > 2 else b"oops", **fault[1])
        elif isinstance(fault, bytes):
            self._respond(200, fault)
        else:
            self._respond(200, self.proxy.pass_on(body))

    def _respond(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for every request."""

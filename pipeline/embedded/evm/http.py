"""JSON-RPC 2.0 over HTTP/1.1 with keep-alive: one request or a batch in a POST."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.embedded.evm.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    RpcError,
)

logger = logging.getLogger(__name__)

#: A transaction is 128 KiB at most in geth; a batch holds some hundreds.
BODY_MAX_BYTES = 32 * 1024 * 1024

Answer = Callable[[str, Sequence[Any]], Any]


def make_server(port: int, answer: Answer) -> ThreadingHTTPServer:
    """A server on the loopback address that asks ``answer(method, params)``, from many threads."""
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"answer": staticmethod(answer)}))
    server.daemon_threads = True
    return server


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    answer: Answer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = json.dumps(self._answer_body(self.rfile.read(length))).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for every request."""

    def _answer_body(self, body: bytes) -> Any:
        try:
            request = json.loads(body)
        except ValueError:
            return _error(None, RpcError(PARSE_ERROR, "parse error"))
        if isinstance(request, list):
            return [self._answer_one(one) for one in request]
        return self._answer_one(request)

    def _answer_one(self, request: Any) -> Any:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, RpcError(INVALID_REQUEST, "invalid request"))
        params = request.get("params") or []
        if not isinstance(params, list):
            return _error(request.get("id"), RpcError(INVALID_PARAMS, "params must be an array"))
        try:
            result = self.answer(request["method"], params)
        except RpcError as exc:
            return _error(request.get("id"), exc)
        except Exception as exc:
            logger.exception("%s failed", request["method"])
            return _error(request.get("id"), RpcError(INTERNAL_ERROR, f"{type(exc).__name__}: {exc}"))
        return {"jsonrpc": "2.0", "id": request.get("id"), "result": result}


def _error(request_id: Any, error: RpcError) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": request_id, "error": body}

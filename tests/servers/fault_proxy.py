"""A JSON-RPC proxy before one or two nodes that does what goes wrong between a node and its clients.

All faults are counted, none is timed: the same requests in the same order meet the same faults.
It is also stricter than anvil where geth is: see `FaultProxy`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.chain.loading import load_web3
from tests.servers.faults import Fault, LateReply, LostReply, Plan, Refusal, Replaced, When
from tests.servers.sent import Sent, decode, pays_more
from tests.servers.upstream import GETH_CODE, Answer, Upstream, refusal

SEND = "eth_sendRawTransaction"
#: What geth says of an unknown method.
NO_SUCH_METHOD = -32601


class FaultProxy:
    """``with FaultProxy(anvil.rpc_url) as proxy:``, then let clients use ``proxy.url``.

    Faults are for one JSON-RPC method (`ANY`: for all), for ``times`` requests (None: for all from now
    on), after ``skip`` that go through, and only where ``when(params)``. Each method that makes one
    returns a `Fault` to count, to wait for or to end it. A request that meets no refusal can meet one
    fault of each other kind at once: another answer, a late reply, a lost one. In a batch another answer
    is for each entry by itself; the others meet the whole HTTP request, and count once.
    """

    def __init__(
        self, *upstream_urls: str, geth_words: bool = False, strict_replacements: bool = False
    ) -> None:
        self.upstreams = [Upstream(url) for url in upstream_urls]
        #: Which of the upstreams is asked; and whether the next request goes to the next one.
        self.current, self.alternate = 0, False
        #: While it is set each connection is closed, with what came over it unread.
        self.down = False
        #: Refusals of transactions in geth's words and with its code instead of anvil's.
        self.geth_words = geth_words
        #: Refuse a replacement that doesn't raise both fees by 10 %, as geth does. What counts is the
        #: last transaction of that nonce that a node took, also when anvil has dropped it since (geth
        #: would not have), but not once it is mined.
        self.strict_replacements = strict_replacements
        #: Requests by method, whatever happened to them (except while `down`), and HTTP requests.
        self.counts: Counter[str] = Counter()
        self.http_requests = 0
        #: The raw transactions that came by, in order.
        self.sent: list[Sent] = []
        self._faults: list[Fault] = []
        self._pool: dict[tuple[str, int], Sent] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    def __enter__(self) -> FaultProxy:
        load_web3()  # here, for a client's time-out is short
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop. Raises what went wrong in the proxy itself, which clients saw as a closed connection."""
        self._server.shutdown()
        self._thread.join()
        self.end_faults()
        self._server.server_close()
        if self._server.failures and kind is None:
            raise self._server.failures[0]

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``; any path will do."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- faults: no node is asked -------------------------------------------------------------

    def answer_status(
        self,
        method: str,
        status: int,
        times: int | None = 1,
        *,
        retry_after: int | str | None = None,
        skip: int = 0,
        when: When | None = None,
    ) -> Fault:
        """An HTTP status, 429, 502 or 503; ``retry_after``: with that header, seconds or a date."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return self._add(Refusal(method, times, skip, when, status=status, headers=headers))

    def refuse(self, method: str, times: int | None = 1, *, skip: int = 0, when: When | None = None) -> Fault:
        """Close the connection instead of asking a node; for all methods see also `down`."""
        return self._add(Refusal(method, times, skip, when))

    # --- faults: the node has got it ------------------------------------------------------------

    def cut_reply(
        self, method: str, times: int | None = 1, *, skip: int = 0, when: When | None = None
    ) -> Fault:
        """Close the connection instead of passing the answer on."""
        return self._add(LostReply(method, times, skip, when))

    def truncate_reply(
        self,
        method: str,
        times: int | None = 1,
        *,
        broken: bool = False,
        skip: int = 0,
        when: When | None = None,
    ) -> Fault:
        """Half of the answer's JSON; ``broken``: the whole was announced, the connection is closed."""
        return self._add(LostReply(method, times, skip, when, share=0.5, broken=broken))

    def hold_reply(
        self,
        method: str,
        times: int | None = 1,
        *,
        until: threading.Event | None = None,
        skip: int = 0,
        when: When | None = None,
    ) -> Fault:
        """Keep the answer until the event is set, or the fault is ended (`Fault.end`)."""
        released = until or threading.Event()
        return self._add(LateReply(method, times, skip, when, released=released))

    def delay_reply(
        self, method: str, seconds: float, times: int | None = 1, *, skip: int = 0, when: When | None = None
    ) -> Fault:
        """Keep the answer for so long."""
        return self._add(LateReply(method, times, skip, when, seconds=seconds))

    # --- faults: another answer -------------------------------------------------------------

    def answer_error(
        self,
        method: str,
        message: str,
        times: int | None = 1,
        *,
        code: int = GETH_CODE,
        data: Any = None,
        forward: bool = False,
        skip: int = 0,
        when: When | None = None,
    ) -> Fault:
        """A JSON-RPC error; ``forward``: the node got the request, but its answer is not told."""
        error = {"code": code, "message": message} | ({} if data is None else {"data": data})
        return self._add(Replaced(method, times, skip, when, answer={"error": error}, forward=forward))

    def answer_result(
        self,
        method: str,
        result: Any,
        times: int | None = 1,
        *,
        forward: bool = False,
        skip: int = 0,
        when: When | None = None,
    ) -> Fault:
        """A result that is not the node's, such as None for a receipt."""
        return self._add(Replaced(method, times, skip, when, answer={"result": result}, forward=forward))

    def do_not_serve(self, method: str) -> Fault:
        """The method is unknown, as ``eth_getBlockReceipts`` is to some nodes."""
        message = f"the method {method} does not exist/is not available"
        return self.answer_error(method, message, None, code=NO_SUCH_METHOD)

    def end_faults(self) -> None:
        """End all faults, and let go what is held. `down` and the upstreams stay as they are."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.end()

    # --- two nodes --------------------------------------------------------------------------

    def freeze(self, index: int, at: int | None = None) -> None:
        """Let an upstream lag: it shows no block, receipt or state above its head (or height ``at``).

        For two nodes of one chain name one anvil twice. Sends still reach it, as pools gossip.
        """
        self.upstreams[index].freeze(at)

    def thaw(self, index: int) -> None:
        """Let it follow the chain again."""
        self.upstreams[index].thaw()

    # --- what happens to a request -----------------------------------------------------------

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def plan(self, requests: Sequence[Answer]) -> Plan:
        """Count the requests, and choose the upstream and the faults that they meet."""
        with self._lock:
            self.http_requests += 1
            self.counts.update(request["method"] for request in requests)
            refusal = self._first(Refusal, requests)
            if refusal:
                return Plan(self.upstreams[self.current], refusal=refusal)
            upstream = self.upstreams[self.current]
            if self.alternate:
                self.current = (self.current + 1) % len(self.upstreams)
            replaced = [self._first(Replaced, [request]) for request in requests]
            return Plan(
                upstream, None, replaced, self._first(LateReply, requests), self._first(LostReply, requests)
            )

    def _first(self, kind: type[Fault], requests: Sequence[Answer]) -> Any:
        """The first fault of that kind that takes the requests."""
        for fault in self._faults:
            if isinstance(fault, kind) and fault.takes(requests):
                if kind is not LateReply:
                    fault.happened.set()
                return fault
        return None

    def record_unasked(self, requests: Sequence[Answer]) -> None:
        """Keep what was sent and reached no node."""
        for request in requests:
            if request["method"] == SEND and (sent := decode(request["params"][0])):
                self.sent.append(sent[1])

    def answers(self, requests: Sequence[Answer], plan: Plan) -> list[Answer]:
        """The answers to the requests, with the faults of the plan in their places. Raises `OSError`."""
        found: list[Answer | None] = [None] * len(requests)
        reads = []
        for place, (request, fault) in enumerate(zip(requests, plan.replaced, strict=True)):
            if request["method"] == SEND:
                found[place] = self._send(request, plan.upstream, fault)
            elif fault is None or fault.forward:
                reads.append(place)
        if reads:
            told = plan.upstream.ask([requests[place] for place in reads])
            for place, answer in zip(reads, told, strict=True):
                found[place] = answer
        return [
            {"jsonrpc": "2.0", "id": request["id"], **fault.answer} if fault else answer
            for request, fault, answer in zip(requests, plan.replaced, found, strict=True)
        ]

    def _send(self, request: Answer, upstream: Upstream, fault: Replaced | None) -> Answer:
        decoded = decode(request["params"][0])
        if fault and not fault.forward:
            self.record_unasked([request])
            return fault.answer
        if decoded is None:
            return upstream.ask([request])[0]
        with self._sending:
            return self._forward(request, upstream, *decoded)

    def _forward(self, request: Answer, upstream: Upstream, sender: str, sent: Sent) -> Answer:
        place = len(self.sent)
        self.sent.append(sent)
        answer = self._refused_replacement(request, upstream, sender, sent) or upstream.ask([request])[0]
        if self.geth_words and "error" in answer:
            answer = _in_geth_words(answer, upstream, sender, sent)
        error = answer.get("error")
        self.sent[place] = sent._replace(answer=error["message"] if error else "accepted")
        if not error:
            self._pool[sender, sent.nonce] = sent
        return answer

    def _refused_replacement(
        self, request: Answer, upstream: Upstream, sender: str, sent: Sent
    ) -> Answer | None:
        old = self._pool.get((sender, sent.nonce))
        if not self.strict_replacements or old is None or old.hash == sent.hash or pays_more(sent, old):
            return None
        known = upstream.ask_one("eth_getTransactionByHash", old.hash)
        if known and known.get("blockNumber"):
            return None  # mined: the node has to say that the nonce is used
        return refusal(request, "replacement transaction underpriced")


class _Server(ThreadingHTTPServer):
    """One thread for each connection; all have ended after `server_close`."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.failures: list[BaseException] = []
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, to end it when the proxy ends."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # its client was faster
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong in here; a client that has gone is no failure."""
        failure = sys.exception()
        if failure and not isinstance(failure, ConnectionError):
            self.failures.append(failure)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        proxy = self.server.proxy
        if proxy.down:
            self._close()
            return
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        requests = asked if isinstance(asked, list) else [asked]
        plan = proxy.plan(requests)
        if plan.refusal:
            proxy.record_unasked(requests)
            self._refuse(plan.refusal)
            return
        try:
            answers = proxy.answers(requests, plan)
        except OSError:
            self._close()  # the node is not there: neither are we
            return
        self._pass_on(json.dumps(answers if isinstance(asked, list) else answers[0]).encode(), plan)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.status is None:
            self._close()
        else:
            self._respond(refusal.status, b"the proxy was told to", refusal.headers)

    def _pass_on(self, body: bytes, plan: Plan) -> None:
        if plan.late:
            plan.late.happened.set()
            plan.late.released.wait(plan.late.seconds)
        if self.server.proxy.down or (plan.lost and not plan.lost.share):
            self._close()
        elif plan.lost:
            part = body[: int(len(body) * plan.lost.share)]
            self._respond(200, part, {}, length=len(body) if plan.lost.broken else None)
            if plan.lost.broken:
                self._close()
        else:
            self._respond(200, body, {})

    def _respond(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # its client was faster
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for every request."""


def _in_geth_words(answer: Answer, upstream: Upstream, sender: str, sent: Sent) -> Answer:
    """The same refusal as geth says it (``core/error.go``, ``core/txpool/validation.go``)."""
    said = answer["error"]["message"]
    words = said
    if "already imported" in said:
        words = "already known"
    elif said == "nonce too low":
        mined = int(upstream.ask_one("eth_getTransactionCount", sender, "latest"), 16)
        words = f"nonce too low: next nonce {mined}, tx nonce {sent.nonce}"
    elif said.startswith("Insufficient funds"):
        balance = int(upstream.ask_one("eth_getBalance", sender, "latest"), 16)
        words = f"insufficient funds for gas * price + value: balance {balance}"
    return refusal(answer, words)

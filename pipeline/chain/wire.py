"""web3's HTTP provider for one URL, with what it and its libraries raise told in our words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pipeline.chain.loading import load_web3

if TYPE_CHECKING:
    from requests import ConnectionError as Broken
    from requests import HTTPError, Session
    from web3 import HTTPProvider

#: A method and its parameters.
Request = tuple[str, Sequence[Any]]

#: To connect, and to wait for the answer.
TIMEOUT_SECONDS = (3.0, 10.0)
#: The URL's token is wrong, or not paid for: whatever is in the answer, it is not the chain's.
NOT_FOR_US = (401, 402, 403, 407)
#: When a node says "too many requests" and not for how long; and how much of its wish is believed.
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0


class NoAnswer(Exception):
    """The URL gave no usable answer; the text says why, without secrets.

    ``maybe_taken``: the request may have reached the node all the same.
    ``closed``: the connection ended before the answer began, as idle ones do.
    ``pause_seconds``: for so long the node wants to be left alone.
    """

    def __init__(
        self, text: str, *, maybe_taken: bool = True, closed: bool = False, pause_seconds: float = 0
    ) -> None:
        super().__init__(text)
        self.maybe_taken = maybe_taken
        self.closed = closed
        self.pause_seconds = pause_seconds


class Wire:
    """The kept-alive connections to one URL. Threads may share it."""

    def __init__(self, url: str, timeout_seconds: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._provider: HTTPProvider | None = None

    def one(self, request: Request) -> Any:
        """The node's answer to one request, as decoded from JSON. Raises `NoAnswer`."""
        method, params = request
        return self._told(lambda provider: provider.make_request(method, params))

    def batch(self, requests: Sequence[Request]) -> Any:
        """The node's answer to several requests in one HTTP request. Raises `NoAnswer`."""
        # web3 wants its own type of method names, which are plain text.
        return self._told(lambda provider: provider.make_batch_request(list(requests)))  # type: ignore[arg-type]

    def _connected(self) -> HTTPProvider:
        load_web3()
        from web3 import HTTPProvider

        with self._lock:
            if self._provider is None:
                # web3's own retry would send a transaction twice, and report the second answer.
                self._provider = HTTPProvider(
                    self._url,
                    request_kwargs={"timeout": self._timeout_seconds},
                    session=_session(self._url),
                    exception_retry_configuration=None,
                )
            return self._provider

    def _told(self, ask: Callable[[HTTPProvider], Any]) -> Any:
        """Ask; raise `NoAnswer` outside of the except clauses: no traceback drags the URL along."""
        import requests

        provider = self._connected()
        try:
            return ask(provider)
        except requests.HTTPError as exc:
            told = _refused(exc)
        except requests.ConnectionError as exc:
            told = _broken(exc)
        except requests.Timeout:
            told = NoAnswer(f"did not answer within {self._timeout_seconds[1]:g} s")
        except requests.RequestException:
            told = NoAnswer("cut the answer off")
        except (ValueError, TypeError, AttributeError, RecursionError):
            # Not JSON, or nested too deeply; or JSON in which web3 looks for the id of an answer in vain.
            told = NoAnswer("answered with something that is not JSON-RPC")
        if isinstance(told, NoAnswer):
            raise told
        return told


def _session(url: str) -> Session:
    """One to which proxies, certificates and .netrc say the same at each request: they are read once."""
    import requests

    session = requests.Session()
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify, session.cert = found["proxies"], found["verify"], found["cert"]
    session.auth = requests.utils.get_netrc_auth(url)
    session.trust_env = False
    return session


def _broken(exc: Broken) -> NoAnswer:
    """No connection at all, or one that broke."""
    from urllib3.exceptions import MaxRetryError, ProtocolError, ReadTimeoutError

    cause = exc.args[0] if exc.args else None
    if isinstance(cause, MaxRetryError):
        return NoAnswer("can not be reached", maybe_taken=False)
    if isinstance(cause, ReadTimeoutError):
        return NoAnswer("did not finish its answer in time")
    return NoAnswer("closed the connection without an answer", closed=isinstance(cause, ProtocolError))


def _refused(exc: HTTPError) -> Any:
    """An HTTP status of 400 or more; some nodes send JSON-RPC errors under one, which count."""
    response = exc.response
    if response is None:
        return NoAnswer("answered with an HTTP error")
    status = response.status_code
    wish = response.headers.get("Retry-After")
    if status == 429 or (status == 503 and wish):
        return NoAnswer(f"answered HTTP {status}", maybe_taken=status != 429, pause_seconds=_pause(wish))
    if status in NOT_FOR_US:
        return NoAnswer(f"answered HTTP {status}", maybe_taken=False)
    if status < 500:
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if answer and isinstance(answer, dict | list):
            return answer
    return NoAnswer(f"answered HTTP {status}", maybe_taken=status >= 500)


def _pause(wish: str | None) -> float:
    """Seconds of a Retry-After (RFC 9110, 10.2.3): a number, or a date."""
    if not wish:
        return PAUSE_SECONDS
    try:
        seconds = (
            float(wish) if wish.strip().isdigit() else parsedate_to_datetime(wish).timestamp() - time.time()
        )
    except ValueError:
        return PAUSE_SECONDS
    return min(max(seconds, 0), MAX_PAUSE_SECONDS)

"""Who asks, and whether they may: log-in, sessions, HTTP Basic for machines, CSRF tokens.

Without a password file there is nobody to tell apart: the server then listens on a loopback
address alone, and whoever reaches it acts as the person who started it. What a foreign page in
their browser might send is kept out all the same, by the Host header and a CSRF token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.requests import Request

from pipeline.dashboard.passwords import PasswordFile, User
from pipeline.ledger import sessions
from pipeline.timeline import person

COOKIE = "credential_pipeline_session"
#: The field of a form, and the header of a script, that hold the CSRF token.
CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"

#: So many are kept; there are fewer machines that ask.
MAX_PRINTS = 100

#: What a proxy adds to a request that is not its own.
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")


class LogInRefused(Exception):
    """The name or the password is wrong, or there were too many tries of late."""

    def __init__(self, *, limited: bool) -> None:
        super().__init__("too many tries: wait five minutes" if limited else "wrong name or password")
        self.limited = limited


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may look; ``csrf_token`` is None for a machine, which changes nothing."""

    name: str
    may_change: bool
    csrf_token: str | None

    def sent(self, token: str | None) -> bool:
        """Whether ``token`` is this visitor's."""
        mine = self.csrf_token
        return mine is not None and hmac.compare_digest(mine.encode(), (token or "").encode())


class Access:
    """Decides about each request. One for the process; asked in a worker thread."""

    def __init__(self, passwords: PasswordFile | None) -> None:
        self._passwords = passwords
        #: Of passwords that HTTP Basic has brought and that were right.
        self._prints: set[bytes] = set()
        self._key = secrets.token_bytes(32)
        self._everybody = Visitor(person(), may_change=True, csrf_token=secrets.token_urlsafe(32))

    @property
    def is_open(self) -> bool:
        """Whether there are no passwords, on a loopback address."""
        return self._passwords is None

    def visitor(self, request: Request, *, basic: bool = False) -> Visitor | None:
        """Who asks; None for who has to log in. ``basic``: HTTP Basic will do too (RFC 7617)."""
        if self._passwords is None:
            return self._everybody
        session = self._by_cookie(request)
        return session or (self._by_basic(request) if basic else None)

    def log_in(self, name: str, password: str, *, address: str) -> str:
        """The token of a new session. Raises `LogInRefused`, `SettingsError`."""
        user = self._checked(name, password, address=address)
        token, _ = sessions.begin(user.name, user.password_tag, address=address)
        return token

    def log_out(self, request: Request) -> None:
        """End the session of the cookie, if there is one."""
        sessions.end(request.cookies.get(COOKIE, ""))

    def _checked(self, name: str, password: str, *, address: str) -> User:
        assert self._passwords is not None  # noqa: S101 -- nobody logs in where there are none
        # What somebody typed may be a password in the wrong field: only known names are written down.
        known = name if name in self._passwords.users() else "unknown"
        if sessions.is_limited(address):
            raise LogInRefused(limited=True)
        user = self._passwords.check(name, password)
        if user is None:
            sessions.refuse(known, address=address)
            raise LogInRefused(limited=False)
        return user

    def _by_cookie(self, request: Request) -> Visitor | None:
        token = request.cookies.get(COOKIE)
        session = sessions.find(token) if token else None
        if session is None or self._passwords is None:
            return None
        user = self._passwords.users().get(str(session.name))
        if user is None or user.password_tag != session.password_tag:
            return None
        return Visitor(user.name, user.may_change, str(session.csrf_token))

    def _by_basic(self, request: Request) -> Visitor | None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not colon:
            return None
        return Visitor(self._known(name, password) or self._learn(name, password, request), False, None)

    def _known(self, name: str, password: str) -> str | None:
        """The name, if its password was right before and is the same: a machine asks again and again.

        Nobody else's wrong tries keep it out then, and it costs no hash.
        """
        assert self._passwords is not None  # noqa: S101 -- see `_checked`
        user = self._passwords.users().get(name)
        return name if user and self._print_of(user, password) in self._prints else None

    def _learn(self, name: str, password: str, request: Request) -> str:
        user = self._checked(name, password, address=address_of(request))
        if len(self._prints) >= MAX_PRINTS:
            self._prints.clear()
        self._prints.add(self._print_of(user, password))
        return user.name

    def _print_of(self, user: User, password: str) -> bytes:
        """What is kept of a right password: nothing that means anything outside of this process."""
        text = f"{user.name}:{user.password_tag}:{password}"
        return hmac.digest(self._key, text.encode(), "sha256")


def address_of(request: Request) -> str:
    """Where the request comes from, as the nearest trusted proxy tells."""
    return request.client.host if request.client else "unknown"


def is_forwarded(request: Request) -> bool:
    """Whether a proxy says that it asks for somebody else."""
    return any(name in request.headers for name in FORWARDED)


def is_loopback_host(request: Request) -> bool:
    """Whether the browser was told a loopback name: DNS that points there under another is refused."""
    host = request.headers.get("host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    try:
        return name == "localhost" or ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False

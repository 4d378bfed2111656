"""Logs: one line a record, for people or as JSON, with ids as fields and without secrets.

Whoever runs a process of ours calls `configure_logging` once: the command line at its
start, workers and scheduler through `pipeline.middleware.logs`. An issuer's API keeps its own logging.

Dramatiq and periodiq have called ``logging.basicConfig`` by the time our modules are
imported, so this takes over the handler they made. What the Dramatiq *master* says (boot,
signals) stays in Dramatiq's form: it never imports the actors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.settings import Settings

#: Fields that come first, in this order; any other field follows by name.
FIELDS = (
    "credential_id", "job_id", "batch_id", "transaction_hash", "stage", "attempt", "error",
)  # fmt: skip
#: Attributes that each record has: what is not among them came through ``extra=``.
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
#: Controls (C0, DEL, C1), line separators, what has no width, and the marks that turn the reading direction.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
#: At DEBUG these log each statement with its values: documents, salts and tokens of sessions.
TALKATIVE = ("peewee",)
#: Values that read well without quotes.
PLAIN = re.compile(r"[^\s\"'=]+")
#: Shorter ones are not masked, as that would garble texts: passwords, and parts of an RPC URL.
MIN_SECRET_LENGTH = 4
MIN_TOKEN_LENGTH = 8
#: The login in any URL, configured or not.
LOGIN = re.compile(r"(?<=://)[^\s/@]+@")


class SecretMask:
    """Replaces the configured secrets in a text: the last line of defence, not the first."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted({s for s in secrets if len(s) >= MIN_SECRET_LENGTH}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)

    @classmethod
    def of(cls, settings: Settings) -> SecretMask:
        """The mask for RPC tokens, passwords, the DSN's key and the private key."""
        return cls(_secrets_of(settings))

    def __call__(self, text: str) -> str:
        """``text`` with ``***`` in the place of each secret, in any case of letters."""
        masked = self._secrets.sub("***", text)
        return LOGIN.sub("***@", masked) if "://" in masked else masked


class LineFormatter(logging.Formatter):
    """What both formats share: time in UTC, fields in order, everything masked."""

    def __init__(self, mask: SecretMask) -> None:
        super().__init__()
        self._mask = mask

    def time_of(self, record: logging.LogRecord) -> str:
        """The record's time as RFC 3339 in UTC, to the millisecond."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"

    def fields_of(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        """The fields given as ``extra=``; None is left out."""
        given = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
        for key in (*FIELDS, *sorted(set(given) - set(FIELDS))):
            if given.get(key) is not None:
                yield key, self._value(given[key])

    def text_of(self, record: logging.LogRecord) -> str:
        """The message with its arguments."""
        return self._mask(record.getMessage())

    def trace_of(self, record: logging.LogRecord) -> str:
        """Traceback and stack, or an empty string."""
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return self._mask("\n".join(parts))

    def _value(self, value: Any) -> Any:
        plain = isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value))
        return value if plain else self._mask(str(value))


class ConsoleFormatter(LineFormatter):
    """For people: ``time LEVEL logger message key=value …``; a traceback is set in below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and one more for each line of a traceback."""
        head = f"{self.time_of(record)} {record.levelname:<8} {escape(record.name)} "
        fields = "".join(f" {escape(key)}={_quoted(value)}" for key, value in self.fields_of(record))
        trace = "".join(f"\n    | {escape(line)}" for line in self.trace_of(record).splitlines())
        return head + escape(self.text_of(record)) + fields + trace


class JsonFormatter(LineFormatter):
    """For machines: one JSON object a line, ASCII only, so that no control gets through."""

    def format(self, record: logging.LogRecord) -> str:
        """``time``, ``level``, ``logger``, ``message``, ``process``, fields, ``traceback``."""
        shown: dict[str, Any] = {
            "time": self.time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.text_of(record),
            "process": record.process,
        }
        for key, value in self.fields_of(record):
            shown.setdefault(key, value)
        if trace := self.trace_of(record):
            shown["traceback"] = trace
        return json.dumps(shown, allow_nan=False).replace("\x7f", "\\u007f")


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is now: a progress bar or a test may have replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; called under the handler's lock."""
        self.stream = sys.stderr
        super().emit(record)


def configure_once(settings: Settings) -> None:
    """`configure_logging`, unless that has been done."""
    if not _ours(logging.getLogger()):
        configure_logging(settings)


def configure_logging(settings: Settings) -> None:
    """Let the root logger write in ``LOG_FORMAT`` from ``LOG_LEVEL`` on, to standard error.

    Handlers that ``logging.basicConfig`` made for standard error are replaced; others, such
    as a test's or a file's, stay. May be called again.
    """
    make = JsonFormatter if settings.log_format == "json" else ConsoleFormatter
    handler = StderrHandler()
    handler.setFormatter(make(SecretMask.of(settings)))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, StderrHandler) or _is_plain_stderr(h)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)


def escape(text: str) -> str:
    r"""``text`` on one line and without controls.

    >>> escape("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def _quoted(value: Any) -> str:
    text = str(value)
    return (
        text if PLAIN.fullmatch(text) and text.isprintable() else json.dumps(escape(text), ensure_ascii=False)
    )


def _ours(root: logging.Logger) -> bool:
    return any(isinstance(handler, StderrHandler) for handler in root.handlers)


def _is_plain_stderr(handler: logging.Handler) -> bool:
    """Whether ``basicConfig`` made it; in a worker, Dramatiq's pipe *is* ``sys.stderr``."""
    return type(handler) is logging.StreamHandler and handler.stream in (sys.stderr, sys.__stderr__)


def _secrets_of(settings: Settings) -> Iterator[str]:
    for url in (*settings.rpc_urls, settings.redis_dsn, settings.database_url.get_secret_value()):
        yield from _passwords(url)
    for url in settings.rpc_urls:
        yield from _tokens(url)
    if settings.sentry_dsn:
        yield urlsplit(settings.sentry_dsn.get_secret_value()).username or ""
    if settings.redis_password:
        yield settings.redis_password.get_secret_value()
    if settings.blockchain_private_key:
        yield settings.blockchain_private_key.get_secret_value().strip().removeprefix("0x")
    for path in (settings.blockchain_private_key_file, settings.blockchain_keystore_password_file):
        yield from _content(path)


def _passwords(url: str) -> Iterator[str]:
    """A URL's password as written and as meant, and those in its query (libpq's, redis-py's)."""
    parts = urlsplit(url)
    password = parts.password or ""
    yield from (password, unquote(password))
    yield from (value for name, value in parse_qsl(parts.query) if "password" in name)


def _tokens(url: str) -> Iterator[str]:
    """What of an RPC URL may be a token: long parts of the path, and the query's values."""
    parts = urlsplit(url)
    candidates = (
        *parts.path.split("/"),
        *(value for _, value in parse_qsl(parts.query)),
        parts.username or "",
    )
    yield from (part for part in candidates if len(part) >= MIN_TOKEN_LENGTH)


def _content(path: Path | None) -> Iterator[str]:
    """A secret kept in a file. One that can not be read is the signer's to complain about."""
    if path and path.is_file() and os.access(path, os.R_OK):
        yield path.read_text(encoding="utf-8", errors="replace").strip().removeprefix("0x")

"""Alerts: one Sentry event for each cause of failure, and nothing in it that is secret.

Workers start this in ``after_process_boot`` and the command line at its start, never an
import. It holds a Sentry client of its own and leaves ``sentry_sdk.init`` alone, so that an
issuer's client stays the active one, and no integration of it (Dramatiq's reports every
attempt, logging's every error line) speaks for us. What leaves is built here, and built
again from an allow-list before it is sent (`pipeline.allow_list`): no local variables, no stack,
no breadcrumbs. The check-ins of `pipeline.monitor` leave by the same way.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from pipeline import errors
from pipeline.allow_list import allow_listed
from pipeline.logs import SecretMask
from pipeline.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk import Client
    from sentry_sdk._types import Event

log = logging.getLogger(__name__)

#: Sentry drops a tag whose value is longer, in characters.
MAX_TAG_LENGTH = 200
#: How much of an error's message is sent, in characters.
MAX_MESSAGE_LENGTH = 500
#: One attempt at sending may take this long, in seconds; it runs in a thread of its own.
SEND_TIMEOUT_S = 10
#: So late may a periodic job begin, and so long may it take, before Sentry tells of it.
LATE_MINUTES, LONGEST_MINUTES = 5, 30
#: How long an alert may take to arrive, in seconds, and how many of the last ones are remembered.
ARRIVAL_TIMEOUT_S, REMEMBERED = 3.0, 1000
#: A Sentry that can not be reached is logged this often at most, in seconds.
LOG_AGAIN_AFTER_S = 3600

_client: Client | None = None


def start_sentry(settings: Settings) -> None:
    """Make this process's Sentry client, or none when ``SENTRY_DSN`` is not set.

    A second call replaces the first one's client. Raises `SettingsError` for a DSN that is none.
    """
    global _client
    if _client is not None:
        _client.close(timeout=0)
    _client = _make_client(settings) if settings.sentry_dsn else None


def capture_failure(
    *,
    event_id: str,
    stage: str,
    error_class: str,
    message: str,
    attempts: int,
    permanent: bool,
    credential_id: str | None = None,
    batch_id: int | None = None,
    count: int = 1,
) -> bool:
    """Report one cause of failure: that of a credential, or of a batch of ``count``.

    ``event_id`` is a UUID as 32 hex digits that is the same at each repeat, so that Sentry
    keeps one event. ``message`` is sent for errors of `pipeline.errors` alone; anybody
    else's text may hold what it likes. Returns whether there is a client that took it.
    """
    if _client is None:
        return False
    tags: dict[str, Any] = {
        "stage": stage,
        "error_class": error_class,
        "attempts": attempts,
        "permanent": permanent,
        "count": count,
        "batch": batch_id,
        "credential_id": credential_id,
    }
    event: Event = {
        "event_id": event_id,
        "level": "error",
        "logger": "pipeline",
        "fingerprint": [stage, error_class],
        "tags": {key: _tag(value) for key, value in tags.items() if value is not None},
        "exception": {"values": [{"type": error_class, "value": _text(error_class, message)}]},
        # A credential id may be longer than a tag.
        "contexts": {"credential": {"id": credential_id}} if credential_id else {},
    }
    return _client.capture_event(event) is not None


def capture_incident(*, event_id: str, error_class: str, message: str, level: str) -> bool:
    """Report something about chain, node or wallet that operators have to mend.

    ``level`` is Sentry's: "error" or "fatal". The rest is as in `capture_failure`.
    """
    if _client is None:
        return False
    event: Event = {
        "event_id": event_id,
        "level": "fatal" if level == "fatal" else "error",
        "logger": "pipeline",
        "fingerprint": ["chain", error_class],
        "tags": {"stage": "chain", "error_class": error_class},
        "exception": {"values": [{"type": error_class, "value": _text(error_class, message)}]},
    }
    return _client.capture_event(event) is not None


def capture_check_in(
    *,
    monitor: str,
    check_in_id: str,
    status: Literal["in_progress", "ok", "error"],
    crontab: str,
    duration_seconds: float | None = None,
) -> bool:
    """Tell Sentry's monitor of a periodic job how a run of it goes; makes the monitor where there is none.

    ``check_in_id``: 32 hex digits, the same for begin and end of a run. ``crontab`` is the schedule, in
    UTC. Not waited for, nor repeated: the next run comes soon. Returns as `capture_failure` does.
    """
    if _client is None:
        return False
    event: Event = {
        "type": "check_in",
        "monitor_slug": monitor,
        "check_in_id": check_in_id,
        "status": status,
        "duration": duration_seconds,
        "monitor_config": {
            "schedule": {"type": "crontab", "value": crontab},
            "timezone": "UTC",
            "checkin_margin": LATE_MINUTES,
            "max_runtime": LONGEST_MINUTES,
        },
    }
    return _client.capture_event(event) is not None


def arrived(event_id: str, timeout_s: float = ARRIVAL_TIMEOUT_S) -> bool:
    """Whether Sentry has taken an event that was captured just now, as far as ``timeout_s`` tells."""
    if _client is None:
        return False
    transport: Any = _client.transport
    _client.flush(timeout=timeout_s)
    return event_id in transport.arrived


def flush(timeout_s: float = 2.0) -> None:
    """Wait at most ``timeout_s`` for what is still to be sent: call it before a process ends."""
    if _client is not None:
        _client.flush(timeout=timeout_s)


def _make_client(settings: Settings) -> Client:
    from sentry_sdk import Client
    from sentry_sdk.utils import BadDsn

    assert settings.sentry_dsn is not None  # noqa: S101 -- the caller has looked
    mask = SecretMask.of(settings)
    try:
        client = Client(
            settings.sentry_dsn.get_secret_value(),
            environment=settings.sentry_environment or "production",
            release=_release(),  # None would make the SDK run git
            default_integrations=False,
            auto_enabling_integrations=False,
            before_send=lambda event, hint: allow_listed(event, hint, mask),
            transport=_make_transport_class(),
            include_local_variables=False,
            include_source_context=False,
            send_client_reports=False,
            server_name="",
            spotlight=False,
            debug=False,
        )
    except BadDsn:
        raise errors.SettingsError("wrong settings: SENTRY_DSN: is not a Sentry DSN") from None
    logging.getLogger("urllib3.connectionpool").addFilter(_not_sentrys)
    return client


def _tag(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_TAG_LENGTH else text[: MAX_TAG_LENGTH - 1] + "…"


def _text(error_class: str, message: str) -> str:
    """What is sent of a message: `InvalidDocument` quotes the document, a stranger anything."""
    known = getattr(errors, error_class, None)
    ours = isinstance(known, type) and issubclass(known, errors.PipelineError)
    if not ours or known is errors.InvalidDocument:
        return "see the dead letter"
    return message if len(message) <= MAX_MESSAGE_LENGTH else message[: MAX_MESSAGE_LENGTH - 1] + "…"


def _release() -> str:
    try:
        return "credential-pipeline@" + version("credential-pipeline")
    except PackageNotFoundError:  # run from a checkout without an installation
        return ""


def _not_sentrys(record: logging.LogRecord) -> bool:
    """Whether a line of urllib3's is about another server: lost alerts are logged below, once."""
    return "/envelope/" not in record.getMessage()


def _make_transport_class() -> type[Any]:
    """The SDK's transport, made late as the SDK is imported late; says when it loses something."""
    from sentry_sdk.transport import HttpTransport

    class SpokenTransport(HttpTransport):
        TIMEOUT = SEND_TIMEOUT_S
        logged_at: float | None = None

        def __init__(self, options: dict[str, Any]) -> None:
            super().__init__(options)
            self.lost = 0
            #: The ids of events that Sentry has taken.
            self.arrived: deque[str] = deque(maxlen=REMEMBERED)

        def _send_request(self, *args: Any, **kwargs: Any) -> None:
            lost = self.lost
            super()._send_request(*args, **kwargs)
            envelope = kwargs.get("envelope")
            if envelope is not None and self.lost == lost:
                self.arrived.append(str(envelope.headers.get("event_id")))

        def on_dropped_event(self, reason: str) -> None:
            self.lost += 1
            now = time.monotonic()
            if self.logged_at is not None and now - self.logged_at < LOG_AGAIN_AFTER_S:
                return
            self.logged_at = now
            log.error(
                "Sentry does not take alerts; failures are in the dead letters", extra={"error": reason}
            )

    return SpokenTransport

"""What may leave this machine for Sentry: the last gate, whatever made an event.

An event or a check-in is built anew from the keys that are listed here, its texts without secrets.
What a later SDK, an integration or a scope adds to it stays here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentry_sdk._types import Event, Hint

    from pipeline.logs import SecretMask

#: Top-level keys of an event.
EVENT_KEYS = (
    "event_id", "timestamp", "level", "logger", "platform", "release", "environment",
    "fingerprint", "tags", "exception", "contexts",
)  # fmt: skip
#: Of a check-in.
CHECK_IN_KEYS = (
    "event_id", "type", "check_in_id", "monitor_slug", "status", "duration", "monitor_config",
    "release", "environment",
)  # fmt: skip
#: Of a check-in's ``monitor_config`` and the schedule in it.
MONITOR_KEYS, SCHEDULE_KEYS = ("timezone", "checkin_margin", "max_runtime"), ("type", "value")
#: Tags of an event.
TAGS = ("stage", "error_class", "attempts", "permanent", "credential_id", "batch", "count")


def allow_listed(event: Event, hint: Hint, mask: SecretMask) -> Event:
    """``event`` with nothing but what is listed; the SDK's ``before_send``."""
    given: Mapping[str, Any] = event
    kept = _check_in(given, mask) if given.get("type") == "check_in" else _event(given, mask)
    return kept  # type: ignore[return-value]  # Event is a TypedDict


def _event(event: Mapping[str, Any], mask: SecretMask) -> dict[str, Any]:
    kept: dict[str, Any] = {key: event[key] for key in EVENT_KEYS if event.get(key)}
    kept |= _masked({key: kept[key] for key in ("logger", "release", "environment") if key in kept}, mask)
    if "fingerprint" in kept:
        kept["fingerprint"] = [mask(str(part)) for part in kept["fingerprint"]]
    kept["tags"] = _masked({key: value for key, value in kept.get("tags", {}).items() if key in TAGS}, mask)
    kept["exception"] = {
        "values": [
            {"type": mask(str(value.get("type"))), "value": mask(str(value.get("value") or ""))}
            for value in kept.get("exception", {}).get("values", ())
        ]
    }
    credential = kept.get("contexts", {}).get("credential")
    kept["contexts"] = {"credential": {"id": mask(str(credential["id"]))}} if credential else {}
    return kept


def _check_in(event: Mapping[str, Any], mask: SecretMask) -> dict[str, Any]:
    kept: dict[str, Any] = {key: event[key] for key in CHECK_IN_KEYS if event.get(key) is not None}
    config = kept.pop("monitor_config", {})
    kept = {key: value if key == "duration" else mask(str(value)) for key, value in kept.items()}
    kept["monitor_config"] = {key: config[key] for key in MONITOR_KEYS if key in config}
    schedule = config.get("schedule", {})
    kept["monitor_config"]["schedule"] = _masked(
        {key: value for key, value in schedule.items() if key in SCHEDULE_KEYS}, mask
    )
    return kept


def _masked(values: Mapping[str, Any], mask: SecretMask) -> dict[str, str]:
    return {key: mask(str(value)) for key, value in values.items()}

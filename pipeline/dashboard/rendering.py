"""Jinja2, and how values look on a page. Everything is escaped, and no text has controls in it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.logs import escape

FOLDER = Path(__file__).parent / "templates"

WEI_PER_ETHER, WEI_PER_GWEI = Decimal(10**18), Decimal(10**9)
#: Below this an amount reads better in gwei.
SMALL_WEI = 10**14

#: Seconds of a unit, and its sign, the largest first.
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def render(template: str, /, **values: Any) -> str:
    """The template of this name with these values."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """The templates, read once."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "ago": ago, "duration": duration, "iso": iso, "clock": clock, "number": number,
        "ether": ether, "gwei": gwei, "days": days, "short": short, "query": query,
    }  # fmt: skip
    return made


def _plain(value: Any) -> Any:
    """What stands in the place of ``value``: a text's controls and line ends made visible."""
    if value is None:
        return "–"
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``5.2 h``, ``2.5 d``."""
    if seconds is None:
        return "–"
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"


def ago(seconds: float | None) -> str:
    """How long ago that moment was."""
    if seconds is None:
        return "never"
    age = time.time() - seconds
    return "just now" if age < 1 else f"{duration(age)} ago"


def days(value: float) -> str:
    """``5 hours``, ``12 days``, ``more than a year``."""
    if value > 365:
        return "more than a year"
    return f"{value * 24:.0f} hours" if value < 2 else f"{value:.0f} days"


def iso(seconds: float) -> str:
    """A moment as RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(seconds: float) -> str:
    """A moment as ``24 Nov 12:03:05``, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %b %H:%M:%S")


def number(value: float | None) -> str:
    """A number with thin spaces between the thousands."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def ether(wei: int | str | None) -> str:
    """Wei as ether, to four digits that count; what is very small as gwei."""
    if wei is None:
        return "–"
    amount = Decimal(wei)
    return gwei(wei) if 0 < abs(amount) < SMALL_WEI else f"{_digits(amount / WEI_PER_ETHER)} ETH"


def gwei(wei: int | str | None) -> str:
    """Wei as gwei."""
    return "–" if wei is None else f"{_digits(Decimal(wei) / WEI_PER_GWEI)} gwei"


def _digits(value: Decimal) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def short(text: str | None, *, keep: int = 6) -> str:
    """A long hash as ``0x123456…abcdef``."""
    if text is None:
        return "–"
    return text if len(text) <= 2 * keep + 5 else f"{text[: keep + 2]}…{text[-keep:]}"


def query(path: str, **values: Any) -> str:
    """A link with a query string; what is None is left out."""
    given = {key: value for key, value in values.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path

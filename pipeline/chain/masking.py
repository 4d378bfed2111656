"""Keep the tokens of RPC URLs out of texts and logs.

web3, requests and urllib3 put whole URLs into their exceptions and debug lines.
"""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl, urlsplit

from pipeline.settings import mask_url

#: Loggers that print URLs or their paths.
TALKATIVE = (
    "web3.providers.HTTPProvider",
    "web3._utils.http_session_manager.HTTPSessionManager",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)
#: A shorter word (``v3``, ``mainnet``) is no token; hiding it would garble texts.
MIN_TOKEN_LENGTH = 8


class Mask:
    """Replaces what is secret in one URL."""

    def __init__(self, url: str) -> None:
        self._replacements = _replacements(url)

    def __call__(self, text: str) -> str:
        """``text`` without the URL's secrets."""
        for secret, shown in self._replacements:
            text = text.replace(secret, shown)
        return text

    def install(self) -> None:
        """Mask what the libraries below log, from now on. Installed twice, it does the same as once."""
        _filter.replacements.update(self._replacements)
        for name in TALKATIVE if self._replacements else ():
            logging.getLogger(name).addFilter(_filter)


class _LogFilter(logging.Filter):
    """One for all URLs of the process; a logger takes the same filter only once."""

    def __init__(self) -> None:
        super().__init__()
        self.replacements: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record's text; all pass."""
        text = record.getMessage()
        for secret in sorted(self.replacements, key=len, reverse=True):
            text = text.replace(secret, self.replacements[secret])
        record.msg, record.args = text, ()
        return True


_filter = _LogFilter()


def _replacements(url: str) -> list[tuple[str, str]]:
    """Pairs of a secret and its stand-in, the longest secrets first."""
    parts = urlsplit(url)
    path = parts.path.strip("/") and parts.path
    secrets = {f"{path}?{parts.query}" if parts.query else path, parts.password, parts.query, parts.fragment}
    words = [parts.username or "", *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    secrets |= {word for word in words if len(word) >= MIN_TOKEN_LENGTH}
    hidden = [(secret, "***") for secret in secrets if secret]
    if not hidden:
        return []
    return [(url, mask_url(url)), *sorted(hidden, key=lambda pair: -len(pair[0]))]

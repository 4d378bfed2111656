"""Pages asked for over HTTP as a browser would, without its scripts."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import requests

#: Longer than any page takes, in seconds.
TIMEOUT_S = 30

TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class Browser:
    """Keeps cookies; follows no redirect by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a page."""
        return self._session.get(self.url + path, timeout=TIMEOUT_S, allow_redirects=False, **options)

    def post(self, path: str, fields: Any = None, **options: Any) -> requests.Response:
        """POST a form."""
        return self._session.post(
            self.url + path, data=fields, timeout=TIMEOUT_S, allow_redirects=False, **options
        )

    def log_in(self, name: str, password: str, **fields: str) -> requests.Response:
        """Send the log-in form."""
        return self.post("/login", {"name": name, "password": password, **fields})

    def csrf_token(self, path: str = "/") -> str:
        """The token in the forms of a page."""
        found = TOKEN.search(self.get(path).text)
        assert found, f"no form on {path}"
        return html.unescape(found[1])

    def other(self) -> Browser:
        """Another one, which has no cookies."""
        return Browser(self.url)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


def users_file(path: Path, *lines: str) -> Path:
    """A password file with these lines, at ``path``."""
    path.touch(mode=0o600)
    path.write_text("".join(line + "\n" for line in lines))
    return path

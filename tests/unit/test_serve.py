"""Promise: without passwords the dashboard listens where nobody else reaches it, and says what is wrong."""

from __future__ import annotations

import pytest

from pipeline.dashboard.serve import is_loopback
from pipeline.errors import SettingsError


def test_what_is_loopback() -> None:
    """Addresses of this machine's own network, in any form; all addresses are more than that."""
    for host in ("127.0.0.1", "127.1", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.5"):
        assert not is_loopback(host)


@pytest.mark.parametrize("host", ["", "*", "a..b", "a" * 80])
def test_what_is_no_host(host: str) -> None:
    """One line that names the option, and no traceback."""
    with pytest.raises(SettingsError, match="--host"):
        is_loopback(host)

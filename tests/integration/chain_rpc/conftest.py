"""Fixtures of the way to a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers.anvil import Anvil
from tests.servers.http_proxy import Proxy


@pytest.fixture
def start_proxy(anvil: Anvil) -> Iterator[Callable[[], Proxy]]:
    """Start a proxy before the test's anvil."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Proxy(anvil))


@pytest.fixture
def proxy(start_proxy: Callable[[], Proxy]) -> Proxy:
    """One proxy."""
    return start_proxy()

"""Fixtures of the fault proxy's own tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy


@pytest.fixture
def anvil(start_anvil: Callable[..., Anvil]) -> Anvil:
    """One that mines only when it is told to."""
    return start_anvil(automine=False)


@pytest.fixture
def proxy(anvil: Anvil, start_fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before it."""
    return start_fault_proxy(anvil.rpc_url)

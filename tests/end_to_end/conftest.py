"""Fixtures of the end-to-end tests: real workers with this process's settings."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline.embedded.workers import Workers
from pipeline.settings import get_settings


@pytest.fixture
def start(start_workers: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workers]:
    """Start workers with this process's settings and the arguments; the settings are set here too."""

    def run(*, processes: int = 1, **variables: object) -> Workers:
        for name, value in variables.items():
            monkeypatch.setenv(name.upper(), str(value))
        get_settings.cache_clear()
        return start_workers(environment=dict(os.environ), processes=processes)

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What no database decides runs on one: starting workers is what CI's time goes to."""
    if config.getoption("--full-size"):
        return
    spared = [item for item in items if item.get_closest_marker("one_database") and "sqlite" in item.name]
    items[:] = [item for item in items if item not in spared]
    config.hook.pytest_deselected(items=spared)

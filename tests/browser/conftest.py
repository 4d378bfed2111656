"""Fixtures for tests in a real browser: one Chromium per test process, a fresh profile per page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from pipeline.embedded.dashboard import DashboardServer
from tests.browser import chromium
from tests.browser.complaints import Complaints
from tests.node import packages

#: A laptop's window. For a phone: ``page.set_viewport_size``; dark: ``page.emulate_media``.
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
#: How long `expect` waits for what is to come true: a loaded machine is slow.
EXPECT_TIMEOUT_MS = 20_000
#: Violations that keep somebody from using the page.
GRAVE = ("serious", "critical")
#: axe-core's answer, as lines for a person.
FINDINGS = """async () => (await axe.run()).violations.flatMap((found) => found.nodes.map((node) => (
    {impact: found.impact, text: `${found.id}: ${node.target}: ${node.failureSummary}`})))"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that the tests of this process share.

    Playwright keeps an event loop in this thread until the end: ``asyncio.run`` fails meanwhile.
    """
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=chromium.executable(), env={**os.environ, **chromium.environment()}
        )


@pytest.fixture
def complaints() -> Complaints:
    """What the pages of this test complained about; what the test does not take fails it."""
    return Complaints()


@pytest.fixture
def new_page(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """Open a page with cookies of its own: another user. Keywords are those of ``Browser.new_context``."""
    contexts: list[BrowserContext] = []

    def open_page(**options: Any) -> Page:
        contexts.append(browser.new_context(**DESKTOP | options))
        complaints.watch(contexts[-1])
        return contexts[-1].new_page()

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.evaluate("0")  # what it said before has arrived when this has
        context.close()
    complaints.check()


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """An empty page of 1280 x 800."""
    return new_page()


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The script of axe-core."""
    return (packages.folder() / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def axe(axe_source: str) -> Callable[[Page], list[str]]:
    """What axe-core finds serious or critical in a page: one text for each element.

    It is evaluated by the debugger, which the page's CSP does not bind.
    """

    def run(page: Page) -> list[str]:
        page.evaluate(axe_source + "; undefined")
        return [found["text"] for found in page.evaluate(FINDINGS) if found["impact"] in GRAVE]

    return run


@pytest.fixture
def start_dashboard(
    new_directory: Callable[[str], Path], tmp_path: Path
) -> Iterator[Callable[..., DashboardServer]]:
    """Start a real dashboard with the options of `DashboardServer`; it ends with the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> DashboardServer:
            options = {"working_directory": tmp_path} | options
            return stack.enter_context(DashboardServer(new_directory("dashboard"), **options))

        yield start


@pytest.fixture
def dashboard(client: Any, start_dashboard: Callable[..., DashboardServer]) -> DashboardServer:
    """A dashboard on the servers of `client`, with the settings of this process."""
    return start_dashboard(environment=os.environ)

"""Promise: the dashboard of a test is the real command, and answers when the test begins."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from pipeline.embedded.dashboard import DashboardServer


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_page_of_the_dashboard_opens(dashboard: DashboardServer, page: Page) -> None:
    """Somebody who opens it gets a page."""
    answer = page.goto(dashboard.url)
    assert answer is not None
    assert answer.status == 200

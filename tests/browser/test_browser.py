"""Promise: the browser tells what is wrong with a page, and the pages' libraries obey a strict CSP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import chromium
from tests.browser.complaints import Complaints
from tests.node.packages import ROOT

SITE = Path(__file__).parent / "site"
STATIC = ROOT / "pipeline" / "dashboard" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: Whether anything red was drawn on the plot.
RED = """() => [...document.querySelector("canvas").getContext("2d").getImageData(0, 0, 400, 200).data]
    .some((value, at, all) => at % 4 === 0 && value > 200 && all[at + 1] < 50 && all[at + 3] > 200)"""


class Handler(SimpleHTTPRequestHandler):
    """The files of this folder and the vendored ones, under the CSP of the dashboard."""

    def translate_path(self, path: str) -> str:
        """The vendored files are where the dashboard has them."""
        return str((STATIC if path.startswith("/vendor/") else SITE) / path.lstrip("/"))

    def end_headers(self) -> None:
        """The strict policy goes with each answer."""
        self.send_header("Content-Security-Policy", CSP)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the browser tells what fails."""


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of a server of static files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_poll_changes_the_page_and_not_what_a_person_did(
    site: str, page: Page, axe: Callable[[Page], list[str]]
) -> None:
    """Focus, selection, typed text, ticks and opened details stay, and so does a drawn plot."""
    page.goto(f"{site}/index.html")
    page.get_by_label("Pick").check()
    page.get_by_text("More").click()
    search = page.get_by_label("Search")
    search.press_sequentially("hello")
    search.evaluate("field => field.setSelectionRange(2, 4)")
    expect(page.locator("#live > p").first).to_have_text("new")
    expect(search).to_be_focused()
    assert search.evaluate("field => [field.value, field.selectionStart]") == ["hello", 2]
    expect(page.get_by_label("Pick")).to_be_checked()
    expect(page.locator("#more")).to_have_attribute("open", "")
    assert page.evaluate(RED)
    assert axe(page) == []


def test_what_is_wrong_with_a_page_is_told(
    site: str, page: Page, complaints: Complaints, axe: Callable[[Page], list[str]]
) -> None:
    """Refused scripts and styles, errors in scripts, missing files: none goes unseen."""
    page.goto(f"{site}/bad.html")
    assert page.title() == "A bad page"
    (found,) = axe(page)
    assert found.startswith("image-alt: img: ")
    with pytest.raises(AssertionError, match="the browser complains"):
        complaints.check()
    refused = complaints.take("Content Security Policy")
    assert any("inline script" in text for text in refused)
    assert any("inline style" in text for text in refused)
    complaints.take("from a script")
    complaints.take("404")


def test_without_a_browser_the_message_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is none to fetch, one of PATH is taken."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(chromium.ChromiumMissing, match="install the package chromium"):
        chromium.installed()
    program = tmp_path / "chromium-browser"
    program.touch(mode=0o755)
    assert chromium.installed() == program

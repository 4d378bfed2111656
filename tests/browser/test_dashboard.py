"""Promise: a person sees what happens, finds a credential, learns why it waits, and mends what failed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipeline.dashboard.passwords import line_of
from pipeline.embedded.dashboard import DashboardServer
from pipeline.embedded.workers import Workers
from pipeline.ledger import control
from pipeline.models import DeadLetter, Write
from tests.browser.complaints import Complaints
from tests.browsing import users_file
from tests.intake import OTHER_HASH, insert_row
from tests.issuer import document, queue_documents
from tests.waiting import until

PASSWORD = "correct horse battery staple"

#: A tag, a line end, and an escape sequence that colours a terminal; as the page shows the latter two.
HOSTILE = "<script>window.hacked = 1</script>\n\x1b[31mred"
SHOWN = "<script>window.hacked = 1</script>\\n\\x1b[31mred"

PAGES = ("/", "/jobs", "/search?q=c1", "/credential?id=c1", "/batches", "/signer", "/dead-letters", "/audit")
SIZES = {"phone": {"width": 360, "height": 800}, "laptop": {"width": 1280, "height": 800}}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """PostgreSQL, unless a test says that one kind will do."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def variables(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process's settings, in mock mode, with an operator, ann, and a viewer, bob."""
    lines = [line_of("ann", "operator", PASSWORD), line_of("bob", "viewer", PASSWORD)]
    path = users_file(tmp_path / "users", *lines)
    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    monkeypatch.setenv("DASHBOARD_PASSWORD_FILE", str(path))
    return dict(os.environ)


@pytest.fixture
def url(variables: dict[str, str], start_dashboard: Callable[..., DashboardServer]) -> str:
    """Where the dashboard is."""
    return start_dashboard(environment=variables).url


def log_in(page: Page, url: str, name: str = "ann") -> None:
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="Overview")).to_be_visible()


def count(page: Page, state: str) -> Any:
    return expect(page.locator(f"#count-{state}"))


def fail_twenty() -> None:
    """Twenty credentials that are queued with another document's hash; the workers do the rest."""
    from pipeline import client

    for n in range(20):
        insert_row(f"wrong{n}", document=json.dumps(document(n)))
    client.write_many_to_blockchain_queued([(f"wrong{n}", OTHER_HASH, None) for n in range(20)])


@on_postgresql
def test_a_thousand_are_watched(
    url: str, page: Page, variables: dict[str, str], start_workers: Callable[..., Workers]
) -> None:
    """From waiting to completed, on a page that is loaded once; with no worker it says so."""
    log_in(page, url)
    page.evaluate("window.loadedOnce = true")
    expect(page.get_by_text("No worker is alive")).to_be_visible()
    queue_documents(1000)
    count(page, "waiting").to_have_text("1\u202f000", timeout=20_000)
    start_workers(environment=variables)
    count(page, "completed").to_have_text("1\u202f000", timeout=60_000)
    count(page, "waiting").to_have_text("0")
    expect(page.get_by_text("All is well")).to_be_visible()
    expect(page.get_by_role("region", name="Newest batches")).to_contain_text("confirmed")
    assert page.evaluate("window.loadedOnce") is True


@on_sqlite
def test_why_one_waits(
    url: str, page: Page, variables: dict[str, str], start_workers: Callable[..., Workers]
) -> None:
    """Paused by a click, searched by its hash with the keyboard, and done after another click."""
    start_workers(environment=variables)
    log_in(page, url)
    page.get_by_role("button", name="Pause chain writing").click()
    expect(page.get_by_text("Chain writing is paused.")).to_be_visible()
    expect(page.get_by_text("Paused by ann since")).to_be_visible()
    queue_documents(3)
    until(lambda: Write.select().where(Write.state == "verified").count() == 3, seconds=30, what="3 verified")
    data_hash = Write.get(Write.credential_id == "c1").data_hash
    page.keyboard.press("/")
    page.keyboard.type("0x" + data_hash.upper())
    page.keyboard.press("Enter")
    page.get_by_role("link", name="c1").click()
    expect(page.locator("#why")).to_contain_text("aused by ann")
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Resume chain writing").click()
    count(page, "completed").to_have_text("3", timeout=30_000)
    assert not control.is_paused()


@on_postgresql
def test_dead_letters_are_replayed(
    url: str,
    page: Page,
    new_page: Callable[..., Page],
    variables: dict[str, str],
    start_workers: Callable[..., Workers],
    complaints: Complaints,
) -> None:
    """A viewer sees them and can do nothing; an operator replays all twenty; the audit table says who."""
    workers = start_workers(environment=variables)
    fail_twenty()
    until(lambda: DeadLetter.select().count() == 20, seconds=30, what="20 dead letters")
    log_in(page, url, "bob")
    page.get_by_role("link", name="Dead letters", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(20)
    expect(page.get_by_role("checkbox")).to_have_count(0)
    expect(page.get_by_role("button", name="Replay")).to_have_count(0)
    status = page.evaluate(
        "async () => (await fetch('/actions/replay', {method: 'POST', body: new FormData()})).status"
    )
    assert status == 403
    complaints.take("403")
    workers.kill()

    operator = new_page()
    log_in(operator, url)
    operator.get_by_role("link", name="Dead letters", exact=True).click()
    operator.get_by_label("Choose all of this page").check()
    operator.get_by_role("button", name="Replay chosen").click()
    expect(operator.get_by_text("20 dead letters were replayed.")).to_be_visible()
    expect(operator.get_by_text("There is none")).to_be_visible()
    operator.get_by_role("link", name="Audit").click()
    expect(operator.locator("tr", has_text="ann").filter(has_text="replayed")).to_have_count(20)
    until(
        lambda: DeadLetter.select().where(DeadLetter.resolved_at.is_null()).count() == 0, seconds=1, what="0"
    )


@on_sqlite
def test_hostile_texts_are_text(
    url: str, page: Page, variables: dict[str, str], start_workers: Callable[..., Workers]
) -> None:
    """In ids, documents and errors; wherever they are shown."""
    from pipeline.credentials import issue

    tag = "<script>window.hacked = 1</script>"
    control.set_paused(True, actor=tag)
    start_workers(environment=variables)
    issue(tag, {"name": tag}, data_hash=None)
    fail_twenty()
    until(lambda: DeadLetter.select().count() == 20, seconds=30, what="20 dead letters")
    DeadLetter.update(message=HOSTILE).execute()
    Write.update(error_message=HOSTILE).where(Write.state == "failed").execute()
    log_in(page, url)
    expect(page.get_by_text(f"Paused by {tag}")).to_be_visible()
    page.goto(f"{url}/jobs?state=active")
    page.get_by_role("link", name=tag).click()
    expect(page.get_by_role("heading", name=tag)).to_be_visible()
    for path in ("/dead-letters", "/credential?id=wrong1"):
        page.goto(url + path)
        expect(page.get_by_text(SHOWN).first).to_be_visible()
        assert "\x1b" not in page.content()
    page.goto(f"{url}/audit")
    expect(page.get_by_role("rowheader", name=tag)).to_be_visible()
    assert page.evaluate("window.hacked") is None


@on_sqlite
def test_everybody_can_use_it(
    url: str,
    page: Page,
    variables: dict[str, str],
    start_workers: Callable[..., Workers],
    axe: Callable[[Page], list[str]],
) -> None:
    """No grave finding of axe-core and no sideways scrolling on any page: a light laptop, a dark phone."""
    start_workers(environment=variables)
    queue_documents(3)
    fail_twenty()
    until(lambda: DeadLetter.select().count() == 20, seconds=30, what="20 dead letters")
    until(
        lambda: Write.select().where(Write.state == "confirmed").count() == 3, seconds=30, what="3 confirmed"
    )
    page.goto(url)
    assert axe(page) == []
    log_in(page, url)
    for scheme, size in (("light", "laptop"), ("dark", "phone")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
        page.set_viewport_size(SIZES[size])  # type: ignore[arg-type]  # a mapping of the two
        for path in (*PAGES, "/batches/1", "/dead-letters?error=HashMismatch&stage=hash_verify"):
            page.goto(url + path)
            assert axe(page) == [], f"{path} {scheme} {size}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} {size}"


@on_sqlite
def test_with_the_keyboard_alone(url: str, page: Page) -> None:
    """From the log-in to a pause, by Tab and Enter; the focus stays where it is while the page polls."""
    page.goto(url)
    page.keyboard.press("Tab")  # past the link that skips
    for text in ("ann", PASSWORD):
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Pause chain writing")
    expect(button).to_be_visible()
    for _ in range(20):
        if button.evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        pass
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Chain writing is paused.")).to_be_visible()


@on_sqlite
def test_a_dashboard_that_is_gone_is_noticed(
    variables: dict[str, str],
    start_dashboard: Callable[..., DashboardServer],
    page: Page,
    complaints: Complaints,
) -> None:
    """The page says since when it is of the past, and goes on by itself when it is back."""
    server = start_dashboard(environment=variables)
    log_in(page, server.url)
    server.kill()
    expect(page.locator("#offline")).to_be_visible(timeout=15_000)
    server.start()
    expect(page.locator("#offline")).to_be_hidden(timeout=15_000)
    for part in ("net::ERR_", "htmx:afterRequest", "htmx:sendError"):
        complaints.take(part)

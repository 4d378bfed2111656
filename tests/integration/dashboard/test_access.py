"""Promise: nobody sees or changes anything who may not, and what they did is written down."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from pipeline.dashboard.passwords import line_of
from pipeline.embedded.dashboard import DashboardServer
from pipeline.ledger import control
from pipeline.models import Journal, Session
from tests.browsing import Browser, users_file
from tests.integration.dashboard.conftest import PASSWORD

ACTIONS = ("pause", "resume", "replay", "discard")
PAGES = ("/", "/jobs", "/search", "/credential?id=x", "/batches", "/signer", "/dead-letters", "/audit")
MACHINES = ("/api/stats", "/api/jobs?state=failed", "/api/jobs/x", "/api/history")


def acts() -> list[tuple[str, str, str | None]]:
    return [(row.actor, row.event, row.detail) for row in Journal.select().order_by(Journal.id)]


def test_nothing_without_a_log_in(guarded_dashboard: Browser) -> None:
    """Pages lead to the log-in, machines get a 401; forms do nothing."""
    for path in PAGES:
        answer = guarded_dashboard.get(path)
        assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login")
    for path in MACHINES:
        answer = guarded_dashboard.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    polled = guarded_dashboard.get("/jobs?state=failed", headers={"HX-Request": "true"})
    assert (polled.status_code, polled.headers["hx-redirect"]) == (
        401,
        "/login?next=%2Fjobs%3Fstate%3Dfailed",
    )
    for action in ACTIONS:
        assert guarded_dashboard.post(f"/actions/{action}", {"all": "yes"}).status_code == 303
    assert not control.is_paused()
    assert acts() == []


def test_log_in_and_out(guarded_dashboard: Browser) -> None:
    """The cookie is for this site and no script; it is worth nothing after the log-out."""
    answer = guarded_dashboard.log_in("ann", PASSWORD, next="/jobs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # this is plain HTTP on loopback
    token = cookie.partition("=")[2].partition(";")[0]
    assert Session.select().where(Session.token_hash == token).count() == 0
    assert guarded_dashboard.get("/").status_code == 200
    assert guarded_dashboard.post("/logout").status_code == 303
    stolen = guarded_dashboard.other().get("/", headers={"Cookie": cookie.partition(";")[0]})
    assert stolen.status_code == 303
    assert acts() == [("ann", "logged in", "127.0.0.1"), ("ann", "logged out", None)]


def test_the_cookie_is_secure_behind_tls(guarded_dashboard: Browser) -> None:
    """As a proxy on this machine tells."""
    answer = guarded_dashboard.post(
        "/login", {"name": "bob", "password": PASSWORD}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "; Secure" in answer.headers["set-cookie"]


def test_the_log_in_leads_to_no_other_site(guarded_dashboard: Browser) -> None:
    """Whatever the link says that led here."""
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "/\t/x", ""):
        assert guarded_dashboard.log_in("ann", PASSWORD, next=target).headers["location"] == "/"


def test_tries_are_limited(guarded_dashboard: Browser) -> None:
    """Five wrong ones, of a name that there is or is not; then not even the right one."""
    for name, password in [
        ("ann", "x"),
        ("ann", ""),
        ("nobody", PASSWORD),
        (PASSWORD, "ann"),
        ("ann", "y" * 2000),
    ]:
        answer = guarded_dashboard.log_in(name, password)
        assert answer.status_code == 401
        assert "Wrong name or password" in answer.text
    assert guarded_dashboard.log_in("ann", PASSWORD).status_code == 429
    assert guarded_dashboard.get("/api/stats", auth=("ann", PASSWORD)).status_code == 429
    refused = [(actor, detail) for actor, event, detail in acts() if event == "log-in refused"]
    assert sorted(refused) == [("ann", "127.0.0.1")] * 3 + [("unknown", "127.0.0.1")] * 2
    assert PASSWORD not in str(acts())


def test_a_viewer_changes_nothing(guarded_dashboard: Browser) -> None:
    """Not even with a token; and the page has no buttons."""
    guarded_dashboard.log_in("bob", PASSWORD)
    page = guarded_dashboard.get("/").text
    assert "/actions/" not in page
    for action in ACTIONS:
        answer = guarded_dashboard.post(f"/actions/{action}", {"csrf_token": "x", "all": "yes"})
        assert answer.status_code == 403
    assert not control.is_paused()


def test_an_operator_needs_the_token(guarded_dashboard: Browser) -> None:
    """None, a wrong one, another session's: 403. With the right one it is done, once, and written down."""
    guarded_dashboard.log_in("ann", PASSWORD)
    other = guarded_dashboard.other()
    other.log_in("ann", PASSWORD)
    for fields in ({}, {"csrf_token": ""}, {"csrf_token": "é"}, {"csrf_token": other.csrf_token()}):
        assert guarded_dashboard.post("/actions/pause", fields).status_code == 403
    assert not control.is_paused()
    answer = guarded_dashboard.post("/actions/pause", {"csrf_token": guarded_dashboard.csrf_token()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?notice=paused")
    assert control.is_paused()
    assert acts()[-1] == ("ann", "paused", None)


def test_what_comes_from_another_page_is_refused(guarded_dashboard: Browser) -> None:
    """Also a log-in or a log-out, which has no token."""
    for path in ("/login", "/logout", "/actions/pause"):
        for site in ("cross-site", "same-site"):
            answer = guarded_dashboard.post(path, {}, headers={"Sec-Fetch-Site": site})
            assert answer.status_code == 403


def test_a_changed_password_ends_the_session(
    guarded_dashboard: Browser, password_file: Path, users: tuple[str, str]
) -> None:
    """As does another role, and no line at all; a file that is wrong lets nobody in."""
    ann, bob = users
    for line in (
        line_of("ann", "operator", PASSWORD + "!"),
        ann.replace("operator", "viewer"),
        "ann:x:y",
        bob,
    ):
        users_file(password_file, ann)
        assert guarded_dashboard.log_in("ann", PASSWORD).status_code == 303
        assert guarded_dashboard.get("/").status_code == 200
        users_file(password_file, line)
        assert guarded_dashboard.get("/").status_code == (500 if line == "ann:x:y" else 303)


def test_machines_use_basic(guarded_dashboard: Browser) -> None:
    """They see what a viewer sees; one that was let in before is, whatever others try from its address."""
    assert guarded_dashboard.get("/api/stats", auth=("bob", PASSWORD)).json()["paused"] is False
    for value in ("Basic", "Basic !", "Basic " + "QQ==", "Bearer x"):
        answer = guarded_dashboard.get("/api/stats", headers={"Authorization": value})
        assert answer.status_code == 401
    for _ in range(5):
        assert guarded_dashboard.get("/api/stats", auth=("bob", "wrong")).status_code == 401
    assert guarded_dashboard.get("/api/stats", auth=("ann", PASSWORD)).status_code == 429
    assert guarded_dashboard.get("/api/stats", auth=("bob", "wrong")).status_code == 429
    assert guarded_dashboard.get("/api/stats", auth=("bob", PASSWORD)).status_code == 200
    assert guarded_dashboard.get("/", auth=("bob", PASSWORD)).status_code == 303


def test_nobody_is_locked_out_by_others(guarded_dashboard: Browser) -> None:
    """Tries from one address do not count for another, for a name that there is or is not."""
    for name in ("ann", "nobody"):
        codes = [
            guarded_dashboard.post(
                "/login", {"name": name, "password": "x"}, headers={"X-Forwarded-For": f"10.0.0.{number}"}
            ).status_code
            for number in range(7)
        ]
        assert set(codes) == {401}
    assert guarded_dashboard.log_in("ann", PASSWORD).status_code == 303


def test_what_needs_no_log_in_on_loopback(guarded_dashboard: Browser) -> None:
    """Metrics and probes; metrics not for somebody behind a proxy on this machine."""
    for path in ("/metrics", "/healthz", "/readyz"):
        assert guarded_dashboard.get(path).status_code == 200
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"):
        assert guarded_dashboard.get("/metrics", headers={header: "https"}).status_code == 401


def test_a_probe_looks_at_no_password(guarded_dashboard: Browser, password_file: Path) -> None:
    """Nobody guesses passwords there, and no database and no file is needed to say that this lives."""
    for path in ("/healthz", "/readyz"):
        for _ in range(6):
            assert guarded_dashboard.get(path, auth=("ann", "wrong")).status_code == 200
    assert not [event for _, event, _ in acts() if event == "log-in refused"]
    password_file.unlink()
    assert guarded_dashboard.get("/healthz", auth=("ann", "wrong")).status_code == 200


def test_every_answer_is_guarded(open_dashboard: Browser) -> None:
    """Headers on pages, files, errors and refusals; nothing but files is kept."""
    for path in ("/", "/static/app.css", "/healthz", "/no-such-page", "/credential?id=none"):
        headers = open_dashboard.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
        assert "server" not in headers


def test_without_passwords_only_localhost_is_answered(open_dashboard: Browser) -> None:
    """A foreign name that points to 127.0.0.1 is some page's trick to read this one."""
    assert open_dashboard.get("/").status_code == 200
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"):
        assert open_dashboard.get("/", headers={"Host": host}).status_code == 403
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert open_dashboard.get("/", headers={"Host": host}).status_code == 200
    assert open_dashboard.get("/", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 403


def test_without_passwords_a_token_is_needed_too(open_dashboard: Browser) -> None:
    """Whoever runs it is who did it."""
    assert open_dashboard.post("/actions/pause", {}).status_code == 403
    open_dashboard.post("/actions/pause", {"csrf_token": open_dashboard.csrf_token()})
    assert control.is_paused()
    assert "@" in acts()[-1][0]


def test_long_bodies_are_refused(open_dashboard: Browser) -> None:
    """With and without a length."""
    body = b"x=" + b"y" * 200_000
    for data in (body, iter([body])):
        answer = open_dashboard.post(
            "/login", data, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 413


def test_a_form_that_does_not_arrive(start_dashboard: Callable[..., DashboardServer]) -> None:
    """Who stops in the middle of one is not waited for, and who goes away leaves no traceback in the log."""
    server = start_dashboard()
    begin = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
    begin += b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname="
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as waiting:
        waiting.sendall(begin)
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            gone.sendall(begin)
        assert b" 408 " in waiting.recv(1000)
    assert "Traceback" not in server.log_path.read_text()


def test_a_readable_password_file_is_refused(
    start_dashboard: Callable[..., DashboardServer], password_file: Path
) -> None:
    """Only its owner may read it."""
    server = start_dashboard(dashboard_password_file=password_file)
    browser = Browser(server.url)
    password_file.chmod(0o644)
    answer = browser.log_in("ann", PASSWORD)
    assert answer.status_code == 500
    assert "chmod 600" in answer.text
    browser.close()

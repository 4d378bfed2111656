"""Promise: the dashboard's lists are complete and without doubles, whatever comes and goes meanwhile."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import status
from pipeline.dashboard.data import jobs
from pipeline.dashboard.data.keyset import Page
from pipeline.errors import InvalidInput
from pipeline.ledger import verification
from pipeline.models import State, Write
from tests.databases import on_sqlite
from tests.ledger import confirmed, failed, finish_all, queue, verified, written


def walked(page: Callable[..., Page[Any]], meanwhile: Callable[[int], object] = lambda number: None) -> Any:
    """All rows, page by page; ``meanwhile`` runs after each."""
    found = page()
    rows, number = list(found.rows), 0
    while found.next is not None:
        meanwhile(number)
        found = page(after=found.next)
        rows += found.rows
        number += 1
    return rows


def of(state: str | None, limit: int = 3) -> Callable[..., Page[Any]]:
    """The pages of a state, with few rows each."""
    return lambda **cursor: jobs.page(state, limit=limit, **cursor)


def test_every_state(ledger: str) -> None:
    """The same jobs as the lists that pollers have, the other way round, with status and reason."""
    for make in (failed, failed, confirmed, confirmed, written, verified, verified):
        make()
    ids = queue(4)
    Write.update(due_at=2**31).where(Write.id.in_(ids[:2])).execute()
    for state in status.LISTS:
        listed = status.jobs(state, 0, 100)[::-1]
        found = walked(of(state, 1))
        assert [job.job_id for job in found] == [document["job_id"] for document in listed], state
        for job, document in zip(found, listed, strict=True):
            same = {
                name: document[name] for name in ("status", "reason", "attempts", "data_hash", "priority")
            }
            assert {name: getattr(job, name) for name in same} == same
            assert job.error == (document["error"] and document["error"]["code"])
            if document["result"] is not None:
                assert job.transaction_hash == document["result"]["transaction_hash"]
    assert len(walked(of(None))) == 11


def test_complete_while_rows_change(ledger: str) -> None:
    """What is queued meanwhile is not in it; what leaves is in it once at most; nothing else is left out."""
    ids = queue(20)
    expected = {row.job_id for row in Write.select()}

    def change(number: int) -> None:
        queue(2, prefix=f"later{number}-")
        verification.begin([ids[number], ids[-1 - number]])

    found = [job.job_id for job in walked(of("waiting"), change)]
    gone = {row.job_id for row in Write.select().where(Write.attempts > 0)}
    assert len(found) == len(set(found))
    assert expected - gone <= set(found) <= expected


def test_the_same_end_for_many(ledger: str) -> None:
    """A batch ends at one moment; its members are told apart by their ids, there and back."""
    queue(10)
    finish_all()
    assert Write.select(Write.finished_at).distinct().count() == 1
    pages = [of("completed", 4)()]
    while pages[-1].next is not None:
        pages.append(of("completed", 4)(after=pages[-1].next))
    assert [len(page.rows) for page in pages] == [4, 4, 2]
    assert (pages[0].previous, pages[-1].next) == (None, None)
    back = of("completed", 4)(before=pages[-1].previous)
    assert back == pages[1]
    assert of("completed", 4)(before=back.previous) == pages[0]


def test_what_was_ahead_is_gone(ledger: str) -> None:
    """Then the way back leads to the top."""
    queue(4)
    second = of("waiting", 2)(after=of("waiting", 2)().next)
    Write.update(state=State.FAILED).where(Write.id > 2).execute()
    assert of("waiting", 2)(before=second.previous).rows == second.rows


#: What somebody may have put into a cursor: another list's key, no list, no number, more than 64 bits.
KEYS = (
    "",
    "[",
    "1",
    "[1, 2]",
    '["1"]',
    "[null]",
    "[true]",
    "[NaN]",
    "[1e999]",
    "[-1]",
    "[9223372036854775808]",
)


@on_sqlite
def test_a_cursor_that_is_none(ledger: str) -> None:
    """It is refused, and so is what is no base64, or too long."""
    queue(1)
    texts = [base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") for key in KEYS]
    for text in [*texts, "?", "é", "W10", "\0", "W" * 10_000]:
        for place in ("before", "after"):
            with pytest.raises(InvalidInput, match="cursor"):
                jobs.page("waiting", **{place: text})  # type: ignore[arg-type]  # one of the two


@on_sqlite
def test_a_state_that_is_none(ledger: str) -> None:
    """Nor are both cursors at once a page."""
    with pytest.raises(InvalidInput, match="state 'queued'"):
        jobs.page("queued")
    with pytest.raises(InvalidInput, match="one cursor"):
        jobs.page(None, before="WzFd", after="WzFd")

"""Promise: who is alone is so, and nobody is shut out for long by who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.turns import Turns
from tests.waiting import until


def waits_for(turns: Turns) -> Callable[[], bool]:
    """Whether somebody waits to be alone."""
    return lambda: turns._want_alone > 0


def test_alone_is_alone() -> None:
    """Twenty that come together and twenty alone: no two of which one is alone meet."""
    turns, inside, met = Turns(), list[str](), list[tuple[str, ...]]()

    def together(_: int) -> None:
        with turns.together():
            inside.append("together")
            if "alone" in (seen := tuple(inside)):
                met.append(seen)
            inside.remove("together")

    def alone(_: int) -> None:
        with turns.alone(seconds=30) as mine:
            assert mine
            inside.append("alone")
            if len(seen := tuple(inside)) > 1:
                met.append(seen)
            inside.remove("alone")

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(lambda n: (alone if n % 2 else together)(n), range(400)))
    assert (met, inside) == ([], [])


def test_who_waits_too_long_gives_up() -> None:
    """Somebody is at it for long: it is told so, and others go on."""
    turns = Turns()
    with turns.together():
        with turns.alone(seconds=0.05) as alone:
            assert not alone
        with turns.together():
            pass
    with turns.alone(seconds=0) as alone:
        assert alone


def test_who_waits_comes_before_newcomers() -> None:
    """However many of those there are."""
    turns, order = Turns(), list[str]()

    def alone() -> None:
        with turns.alone(seconds=30):
            order.append("alone")

    def newcomer() -> None:
        with turns.together():
            order.append("newcomer")

    with turns.together():
        threads = [threading.Thread(target=alone), threading.Thread(target=newcomer)]
        threads[0].start()
        until(waits_for(turns), seconds=10, what="one waits to be alone")
        threads[1].start()
    for thread in threads:
        thread.join(10)
    assert order == ["alone", "newcomer"]

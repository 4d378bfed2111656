"""Promise: figures are judged by what is to be reached, and the docs have them as they were measured."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pipeline.database import database
from pipeline.hashing import document_hash, load_document
from pipeline.models import State, Write
from tests.benchmarks import intake, page, plot, table
from tests.benchmarks.anchored import outcome
from tests.benchmarks.documents import document
from tests.benchmarks.roster import SCENARIOS, option_of
from tests.benchmarks.targets import Target, at_least, at_most, busiest, longest_gap, rounded, spread
from tests.chain import anchored as anchored_root
from tests.chain import registered
from tests.databases import on_postgresql, use_url
from tests.servers.anvil import Anvil
from tests.whole_batches import anchored


@pytest.mark.parametrize(
    ("target", "text", "reached", "missed"),
    [
        (at_least(2), "≥ 2", [2, 2, 1], [1.99, 5, 1]),
        (at_least(2, always=True), "≥ 2, always", [2, 3, 4], [1.9, 3, 4]),
        (at_most(56_000), "≤ 56,000", [1, 56_000, 60_000], [57_000, 56_001, 1]),
        (at_most(0, always=True), "0, always", [0, 0, 0], [0, 0, 1]),
    ],
)
def test_targets(target: Target, text: str, reached: list[float], missed: list[float]) -> None:
    """The median has to reach it, or each round."""
    assert str(target) == text
    assert target.reached(spread(reached), None) is True
    assert target.reached(spread(missed), None) is False
    assert target.reached(None, spread(reached)) is None


def test_a_target_in_times_of_the_peer_judges_the_ratio() -> None:
    """Ours alone says nothing."""
    target = at_most(3, times_peer=True)
    assert str(target) == "≤ 3 ×"
    assert target.reached(spread([100]), spread([3])) is True
    assert target.reached(spread([1]), spread([3.1])) is False
    assert target.reached(spread([1]), None) is None


def test_what_is_shown_is_rounded_to_what_means_something() -> None:
    """Three digits, and all of those before the point."""
    assert [rounded(value) for value in (0.012345, 12.345, 123.4, 47_676.4)] == [0.0123, 12.3, 123, 47_676]
    assert spread([3, 1, 2, 10_000.4]) == {"median": 2.5, "min": 1, "max": 10_000}
    assert spread([]) is None


def test_the_busiest_second_is_half_open() -> None:
    """An event one second after another is not in the same one; the order does not matter."""
    assert busiest([]) == 0
    assert busiest([2.0, 0.0, 1.0]) == 1
    assert busiest([0.0, 0.5, 0.999, 1.2, 1.6, 1.9, 5.0]) == 4


def test_the_longest_gap_begins_with_the_fault() -> None:
    """What was before does not count, the wait for the first after it does."""
    assert longest_gap([1, 9, 12, 13], begin=10) == 2
    assert longest_gap([1, 9, 14, 13], begin=10) == 3
    assert longest_gap([1, 9], begin=10) == 0


def test_the_table_says_what_is_not_reached() -> None:
    """Numbers as people read them; a line that was not judged is apart."""
    rows = [_row(), _row(what="intake: y", reached=False)]
    rows.append(_row(what="b: z", to_reach=None, reached=None, peer=None, ratio=None))
    text = table.markdown({"machine": {"cores": 2, "memory_gb": 24}, "rows": rows})
    assert text.startswith("cores 2, memory gb 24.")
    assert "| a: x | 12,000 (11,000–13,000) | 0.5 | 2 (1–3) | ≥ 2 × | yes | – |" in text
    assert "≥ 2 × | no | `intake` |" in text
    assert "Reached: 1 of 2. Not reached: intake: y." in text
    assert text.count("b: z") == 1
    assert text.rstrip().endswith("| b: z | 12,000 (11,000–13,000) | – | – | – |")


def test_each_line_says_how_it_is_measured_again() -> None:
    """By the name of its scenario, for each that there is."""
    for name, scenarios in SCENARIOS.items():
        lines = [f"{one.name}: {measure.name}" for one in scenarios for measure in one.measures]
        assert lines
        assert {option_of(line) for line in lines} == {name}


def test_several_runs_are_one_table_if_they_are_alike() -> None:
    """The load may differ, how many credentials there were may not; nothing is in it twice."""
    a, b = (
        {"machine": {"cores": 2, "load_before": n, "rounds": 5}, "rows": [_row(what=str(n))]} for n in (1, 2)
    )
    assert [row["what"] for row in table.together([a, b])["rows"]] == ["1", "2"]
    peered = {"machine": {"cores": 2, "peer": "x 1.0", "rounds": 5}, "rows": []}
    assert table.together([a, peered])["machine"] == a["machine"] | {"peer": "x 1.0"}
    b["machine"]["rounds"] = 3
    assert table.together([a, b])["machine"]["rounds"] == "5 or 3"
    with pytest.raises(table.Different, match="measured in two"):
        table.together([a, a])
    with pytest.raises(table.Different, match="cores: 2 in one run, 4 in another"):
        table.together([a, {"machine": {"cores": 4, "rounds": 5}, "rows": []}])


def _row(**more: Any) -> dict[str, Any]:
    usual = {
        "what": "a: x",
        "ours": spread([12_000, 11_000, 13_000]),
        "peer": spread([0.5]),
        "ratio": spread([1, 2, 3]),
        "to_reach": "≥ 2 ×",
        "reached": True,
    }
    return usual | more


def test_the_page_has_the_figures_that_were_measured() -> None:
    """Table and plot are made of the JSON beside them: ``python -m tests.benchmarks.page``."""
    report = json.loads(page.FIGURES.read_text())
    text = page.PAGE.read_text()
    assert page.filled(text, report) == text
    assert plot.svg(report) == page.PLOT.read_text()


def test_a_plot_of_nothing() -> None:
    """Is no picture."""
    with pytest.raises(ValueError, match="measure chain or scale"):
        plot.svg({"rows": []})


def test_copied_credentials_are_like_queued_ones(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a document of its own whose hash is the right one, counted, and with all indexes."""
    use_url(postgres_url, monkeypatch)
    database.is_closed()  # opens it
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        before = admin.execute("SELECT indexdef FROM pg_indexes ORDER BY indexname").fetchall()
        intake.copied(5)
        assert admin.execute("SELECT indexdef FROM pg_indexes ORDER BY indexname").fetchall() == before
        found = admin.execute(
            "SELECT credential_id, document::text, w.data_hash, c.data_hash FROM writes w"
            " JOIN credentials c ON c.id = credential_id WHERE state = 'queued'"
        ).fetchall()
        [(waiting,)] = admin.execute("SELECT SUM(delta) FROM write_counts WHERE status = 'waiting'")
    hashes = {f"c{number}": document_hash(document(number)) for number in range(5)}
    assert {name: (load_document(text), *rest) for name, text, *rest in found} == {
        f"c{number}": (document(number), hashes[f"c{number}"], hashes[f"c{number}"]) for number in range(5)
    }
    assert len(intake.waiting()) == waiting == 5
    database.close_all()


@on_postgresql
def test_what_became_of_credentials_is_asked_of_the_chain(
    client: Any, anvil: Anvil, postgres_url: str
) -> None:
    """A row that says confirmed is not enough, and what is there without a batch is there too often."""
    chain = registered(anvil)
    anchored(chain, anvil.rpc_url, 5)
    with psycopg.connect(postgres_url, autocommit=True) as admin:

        def found(count: int) -> tuple[int, int, int]:
            one = outcome(anvil, chain.contract_address, admin, count)
            assert one.confirmed_at == sorted(one.confirmed_at)
            return one.lost, one.failed, one.twice

        assert found(5) == (0, 0, 0)
        assert found(6) == (1, 0, 0)
        Write.update(state=State.VERIFIED).where(Write.credential_id == "c0").execute()
        assert found(5) == (1, 0, 0)
        Write.update(state=State.CONFIRMED).where(Write.credential_id == "c0").execute()
        anchored_root(chain)
        assert found(5) == (0, 0, 1)
        Write.update(data_hash="ab" * 32).where(Write.credential_id == "c1").execute()
        assert found(5) == (5, 0, 2)  # no root on the chain stands for these members
        Write.update(state=State.FAILED).where(Write.credential_id == "c1").execute()
        assert found(5)[1] == 1

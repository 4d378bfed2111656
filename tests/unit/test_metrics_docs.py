"""Promise: the page of metrics has each one as it is, and every alert asks for some that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import errors
from pipeline.attempts import UnexpectedError
from pipeline.metrics.catalogue import METRICS, STAGES, USUAL_ERRORS, Counter, Gauge, Histogram, Metric

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for group in YAML(typ="safe", pure=True).load(DOCS / "alert-rules.yaml")["groups"]
    for rule in group["rules"]
]
BY_NAME = {metric.name: metric for metric in METRICS}
#: What Prometheus makes of a histogram.
SUFFIXES = ("_bucket", "_sum", "_count")
#: Functions and operators take some labels that no metric has.
RESULT_LABELS = {"le"}


def section(title: str) -> dict[str, tuple[str, ...]]:
    """The metrics of a section's table, with their labels."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(pipeline_\w+)` \|(.*?)\|", text, flags=re.MULTILINE)
    return {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


@pytest.mark.parametrize(
    ("title", "kind"), [("Gauges", Gauge), ("Counters", Counter), ("Histograms", Histogram)]
)
def test_every_metric_is_explained(title: str, kind: type[Metric]) -> None:
    """In the section of its kind with its labels, and none that there is not."""
    assert section(title) == {metric.name: metric.labels for metric in METRICS if isinstance(metric, kind)}


def test_names_follow_the_conventions() -> None:
    """Prefix, unit and suffix; each has a help."""
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"pipeline_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == isinstance(metric, Counter), metric.name
        assert metric.help
        assert all(len(values) == len(metric.labels) for values in metric.known)
        if isinstance(metric, Histogram):
            assert list(metric.buckets) == sorted(set(metric.buckets)) != []


def test_usual_errors_exist() -> None:
    """Those that are shown as 0 before there is any."""
    for stage, names in USUAL_ERRORS.items():
        assert stage in STAGES
        assert {*names} - {*vars(errors)} <= {UnexpectedError.__name__}


def base_of(name: str) -> Metric:
    """The metric to which a series belongs. Raises `KeyError`."""
    for suffix in SUFFIXES:
        base = BY_NAME.get(name.removesuffix(suffix))
        if name.endswith(suffix) and isinstance(base, Histogram):
            return base
    return BY_NAME[name]


def asked_for(text: str) -> list[tuple[Metric, set[str]]]:
    """The metrics in a query, with the labels by which each is chosen."""
    found = re.findall(r"(pipeline_\w+)(?:\{(.*?)\})?", text)
    return [(base_of(name), set(re.findall(r"(\w+)\s*(?:=|!)", chosen))) for name, chosen in found]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert(rule: dict[str, Any]) -> None:
    """It is complete, its metrics exist with the labels that it names, and values that are known."""
    metrics = asked_for(rule["expr"])
    assert metrics
    for metric, labels in metrics:
        assert labels <= set(metric.labels), metric.name
    of_all = {label for metric, _ in metrics for label in metric.labels}
    grouped = re.findall(r"by \(([\w, ]*)\)", rule["expr"])
    named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) | {
        label.strip() for group in grouped for label in group.split(",")
    }
    assert named <= of_all
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert len(rule["annotations"]["summary"]) < 80
    assert len(rule["annotations"]["description"]) > 80, "what to do"
    assert rule.get("for", "0m") == "0m" or re.fullmatch(r"\d+[mh]", rule["for"])


def test_alerts_have_a_reason_each() -> None:
    """A comment above it; names are unique."""
    lines = (DOCS / "alert-rules.yaml").read_text().splitlines()
    alerts = [number for number, line in enumerate(lines) if line.strip().startswith("- alert:")]
    assert all(lines[number - 1].strip().startswith("# ") for number in alerts)
    assert len({rule["alert"] for rule in RULES}) == len(RULES) == len(alerts)


def test_queries_of_the_page() -> None:
    """They ask for metrics that there are."""
    queries = re.findall(r"`([^`]*\(.*?pipeline_[^`]*)`", PAGE)
    assert len(queries) >= 5
    for query in queries:
        for metric, labels in asked_for(query):
            assert labels <= {*metric.labels, *RESULT_LABELS}, query

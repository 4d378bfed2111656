"""Everything as Prometheus reads it: `render` is the page ``/metrics``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from pipeline.metrics import catalogue, readings
from pipeline.metrics.catalogue import Counter, Gauge, Histogram, Metric
from pipeline.metrics.readings import Reading
from pipeline.metrics.recorder import INFINITE, SUM, Field, bound_text

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

#: The series of a metric, and what there is of it.
Series = Mapping[Field, float]


def render() -> tuple[bytes, str]:
    """Body and content type of one scrape; it asks Redis and SQL, and keeps nothing.

    A server that is away is said to be so, and what it alone knows is left out. No node is asked.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry()
    registry.register(_Scrape())
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Scrape:
    """What prometheus_client calls a collector."""

    def describe(self) -> Iterable[Family]:
        """Nothing: to be asked for the names alone must not cost a scrape."""
        return ()

    def collect(self) -> Iterator[Family]:
        """All metrics that have a value, in the catalogue's order."""
        values, sums = readings.read()
        by_name = _by_name(values, sums)
        redis_is_up = any(series == (catalogue.UP.name, "redis") and value for _, series, value in values)
        for metric in catalogue.METRICS:
            if isinstance(metric, Gauge):
                yield from _gauge(metric, by_name[metric.name])
            elif redis_is_up:
                make = _counter if isinstance(metric, Counter) else _histogram
                yield make(metric, by_name[metric.name])


def _by_name(values: Iterable[Reading], sums: Series) -> defaultdict[str, dict[Field, float]]:
    found: defaultdict[str, dict[Field, float]] = defaultdict(dict)
    for field, amount in sums.items():
        found[field[0]][field] = amount
    for _, field, value in values:
        found[field[0]][field] = value
    return found


def _gauge(metric: Gauge, series: Series) -> Iterator[Family]:
    from prometheus_client.core import GaugeMetricFamily

    if series:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for (_, *labels), value in series.items():
            family.add_metric(labels, value)
        yield family


def _counter(metric: Metric, series: Series) -> Family:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels in _label_values(metric, series):
        family.add_metric(labels, series.get((metric.name, *labels), 0))
    return family


def _histogram(metric: Metric, series: Series) -> Family:
    from prometheus_client.core import HistogramMetricFamily

    assert isinstance(metric, Histogram)  # noqa: S101 -- there is no fourth kind
    bounds = [*map(bound_text, metric.buckets), INFINITE]
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels in _label_values(metric, series):
        of = (metric.name, *labels)
        counts = accumulate(series.get((*of, bound), 0) for bound in bounds)
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), series.get((*of, SUM), 0))
    return family


def _label_values(metric: Metric, series: Series) -> list[tuple[str, ...]]:
    """Those of which there is something, and those that are known beforehand: a rate needs the zero."""
    found = {field[1 : 1 + len(metric.labels)] for field in series}
    return sorted(found | set(metric.known or ([()] if not metric.labels else [])))

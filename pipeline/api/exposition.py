"""How a metric is described, and its values written for Prometheus. Which metrics there are is `metrics`'."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.api.hardware import GpuStats
from pipeline.histogram import Histogram
from pipeline.status import Status


class Scrape(NamedTuple):
    """All that is known at the moment of a scrape."""

    status: Status
    gpus: dict[int, GpuStats]
    version: str


class Sample(NamedTuple):
    """A value, and those of the labels."""

    labels: tuple[str, ...]
    value: float | Histogram


class Described(NamedTuple):
    """A metric, named as it is exposed: a counter with its `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str
    samples: Callable[[Scrape], Iterable[Sample]]


def render(metrics: Iterable[Described], scrape: Scrape) -> tuple[str, bytes]:
    """Content type and body of a scrape."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, scrape))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Exposition(Collector):
    def __init__(self, metrics: Iterable[Described], scrape: Scrape) -> None:
        self._metrics, self._scrape = metrics, scrape

    def collect(self) -> Iterator[Metric]:
        for described in self._metrics:
            yield _family(described, described.samples(self._scrape))


def _family(described: Described, samples: Iterable[Sample]) -> Metric:
    name, kind, labels, text, _ = described
    if kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for sample in samples:
            assert isinstance(sample.value, Histogram)
            histogram.add_metric(sample.labels, _cumulative(sample.value), sample.value.sum_s)
        return histogram
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
    for sample in samples:
        assert not isinstance(sample.value, Histogram)
        family.add_metric(sample.labels, sample.value)
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    seen, buckets = 0, []
    for edge, count in zip((*histogram.edges_s, float("inf")), histogram.counts, strict=True):
        seen += count
        buckets.append((floatToGoString(edge), float(seen)))
    return buckets

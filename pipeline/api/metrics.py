"""A Status as Prometheus metrics. Labels are names from the topology and drop reasons, so their number is bounded."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.messages import StageStatus, Status


def render_metrics(status: Status) -> tuple[str, bytes]:
    """Content type and body of a scrape."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from self._frames()
        for stage in self._status.stages:
            yield from _of_stage(stage)
        for link in self._status.links:
            in_flight = GaugeMetricFamily("livepipe_link_in_flight", "Slots that are not free", labels=["link"])
            in_flight.add_metric([link.link], link.in_flight)
            yield in_flight

    def _frames(self) -> Iterator[Metric]:
        frames = self._status.frames
        yield CounterMetricFamily("livepipe_frames_decoded", "Frames with an identity", value=frames.decoded)
        yield CounterMetricFamily("livepipe_frames_delivered", "Frames encoded and sent", value=frames.delivered)
        yield GaugeMetricFamily("livepipe_frames_in_flight", "Frames between the two", value=frames.in_flight)
        dropped = CounterMetricFamily("livepipe_frames_dropped", "Frames dropped, by reason", labels=["reason"])
        for reason, count in frames.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        yield _quantiles("livepipe_end_to_end_seconds", "Access unit in to bytes out", {}, self._status.end_to_end_ms)


def _of_stage(stage: StageStatus) -> Iterator[Metric]:
    labels = {"stage": stage.stage}
    yield _gauge("livepipe_stage_up", "Whether the stage is READY", labels, stage.state == "READY")
    yield _counter("livepipe_stage_restarts", "Times that the stage was started again", labels, stage.restarts)
    yield _counter("livepipe_stage_units_in", "Frames or segments taken in", labels, stage.units_in)
    yield _counter("livepipe_stage_units_out", "Frames or segments handed on", labels, stage.units_out)
    yield _counter("livepipe_stage_cpu_seconds", "CPU time used", labels, stage.cpu_s)
    yield _gauge("livepipe_stage_resident_bytes", "Resident memory", labels, stage.rss_bytes)
    yield _quantiles("livepipe_stage_seconds", "From arrival at the stage to handing on", labels, stage.latency_ms)


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _quantiles(name: str, text: str, labels: dict[str, str], values_ms: tuple[float | None, float | None]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[*labels, "quantile"])
    for quantile, value in zip(("0.5", "0.95"), values_ms, strict=True):
        if value is not None:
            family.add_metric([*labels.values(), quantile], value / 1000)
    return family

"""Traced frames as OpenTelemetry spans, sent to a collector over OTLP/HTTP: a trace a frame, a span for its whole way,
and one below it for each hop.

A process of its own runs it: its packages are large, and a collector may be slow or gone, which is no concern of
whoever handles frames, answers requests, or keeps the others alive.
"""

import hashlib
import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pipeline.status import FrameTrace

EXPORT_TIMEOUT_S = 5.0

FAULTS = ("processor_error", "crash", "poison")
"""Outcomes that are somebody's mistake; the other drops are the pipeline's way to keep time."""

_NS = 1_000_000_000
_NS_PER_MS = 1_000_000


class SpanSender:
    """Sends to the collector at `url`. `pipeline` is the topology's name, `run` what tells this run from others."""

    def __init__(self, url: str, pipeline: str, run: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # Whoever calls `send` says so once.
        self._run = f"{pipeline} {run}"
        self._resource = Resource.create({"service.name": "livepipe", "service.instance.id": pipeline})
        self._exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)

    def send(self, traces: Sequence[FrameTrace]) -> bool:
        """Whether the collector has taken them. Waits for EXPORT_TIMEOUT_S at most."""
        spans = [span for trace in traces for span in self.spans(trace)]
        return bool(self._exporter.export(spans) is SpanExportResult.SUCCESS)

    def spans(self, trace: FrameTrace) -> list[ReadableSpan]:
        """The frame's span, and those of its hops. Ids are made from the frame's identity: sent twice, it is the same
        trace."""
        trace_id = self._number(16, trace)
        arrived_ns = round(trace.arrived * _NS)
        root = self._context(trace_id, trace, "frame")
        attributes = {
            "livepipe.stream": trace.stream,
            "livepipe.epoch": trace.epoch,
            "livepipe.seq": trace.seq,
            "livepipe.pts": trace.pts,
            "livepipe.outcome": trace.outcome,
        }
        status = Status(StatusCode.ERROR, trace.outcome) if trace.outcome in FAULTS else Status(StatusCode.UNSET)
        spans = [
            ReadableSpan(
                "frame",
                root,
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.INTERNAL,
                status=status,
                start_time=arrived_ns,
                end_time=arrived_ns + round(trace.total_ms * _NS_PER_MS),
            )
        ]
        for hop in trace.hops:
            start_ns = arrived_ns + round(hop.start_ms * _NS_PER_MS)
            spans.append(
                ReadableSpan(
                    hop.name,
                    self._context(trace_id, trace, hop.name),
                    parent=root,
                    resource=self._resource,
                    kind=SpanKind.INTERNAL,
                    start_time=start_ns,
                    end_time=start_ns + round(hop.ms * _NS_PER_MS),
                )
            )
        return spans

    def close(self) -> None:
        self._exporter.shutdown()

    def _context(self, trace_id: int, trace: FrameTrace, name: str) -> SpanContext:
        return SpanContext(trace_id, self._number(8, trace, name), False, TraceFlags(TraceFlags.SAMPLED))

    def _number(self, size: int, trace: FrameTrace, name: str = "") -> int:
        named = f"{self._run} {trace.epoch} {trace.seq} {trace.outcome} {name}"
        return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=size).digest())

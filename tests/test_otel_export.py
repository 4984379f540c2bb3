"""Traced frames as a collector sees them, over a real socket."""

import pytest

from pipeline.status import FrameTrace, Hop

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'livepipe[otel]'")

from pipeline.otel_export import SpanSender
from tests.collector import Collector, attributes

ARRIVED = 1_700_000_000.25
HOPS = [Hop("wait_decode", 0.0, 1.0), Hop("decode", 1.0, 2.5)]


def trace(seq: int = 7, outcome: str = "late") -> FrameTrace:
    return FrameTrace("main", 2, seq, 90_000, outcome, ARRIVED, 3.5, HOPS)


@pytest.fixture
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture
def sender(collector):
    sender = SpanSender(f"{collector.url}/", "demo", "run-1")
    yield sender
    sender.close()


def test_a_frame_is_a_trace_with_a_span_a_hop(collector, sender):
    assert sender.send([trace()])
    root, *hops = collector.wait_for(3)
    assert collector.resources[0]["service.name"] == "livepipe"
    assert collector.resources[0]["service.instance.id"] == "demo"
    assert (root.name, root.parent_span_id) == ("frame", b"")
    assert attributes(root) == {
        "livepipe.stream": "main",
        "livepipe.epoch": 2,
        "livepipe.seq": 7,
        "livepipe.pts": 90_000,
        "livepipe.outcome": "late",
    }
    assert [hop.name for hop in hops] == ["wait_decode", "decode"]
    assert {(hop.trace_id, hop.parent_span_id) for hop in hops} == {(root.trace_id, root.span_id)}
    assert len({span.span_id for span in (root, *hops)}) == 3
    start = root.start_time_unix_nano
    assert start == pytest.approx(ARRIVED * 1e9, abs=1000)
    assert root.end_time_unix_nano - start == 3_500_000
    assert [(h.start_time_unix_nano - start, h.end_time_unix_nano - start) for h in hops] == [
        (0, 1_000_000),
        (1_000_000, 3_500_000),
    ]


def test_only_what_went_wrong_is_an_error(collector, sender):
    assert sender.send([trace(0, "delivered"), trace(1, "late"), trace(2, "processor_error"), trace(3, "poison")])
    roots = [span for span in collector.wait_for(12) if span.name == "frame"]
    assert [(root.status.code, root.status.message) for root in roots] == [
        (0, ""),
        (0, ""),
        (2, "processor_error"),
        (2, "poison"),
    ]


def test_a_frame_sent_twice_is_the_same_trace_and_another_one_is_not(collector, sender):
    assert sender.send([trace(0), trace(0), trace(1)])
    first, again, other = (span for span in collector.wait_for(9) if span.name == "frame")
    assert (first.trace_id, first.span_id) == (again.trace_id, again.span_id)
    assert first.trace_id != other.trace_id


def test_frames_of_another_run_are_other_traces(sender):
    other = SpanSender("http://127.0.0.1:1", "demo", "run-2")
    assert other.spans(trace())[0].context.trace_id != sender.spans(trace())[0].context.trace_id
    other.close()


def test_a_collector_that_refuses_is_told_of(collector, sender):
    collector.refuses = True
    assert not sender.send([trace()])

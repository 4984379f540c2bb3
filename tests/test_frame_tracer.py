"""What is noted of a frame's way over two links, by whoever ends it."""

import threading
import time
from collections import Counter

import pytest

from pipeline.boot import FrameFormat, TraceBoot
from pipeline.doorbell import ring
from pipeline.frame_tracer import FrameTracer, is_traced
from pipeline.link import FrameLink, LatestReader, LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome
from pipeline.traces import HOPS, TraceRings

STREAMS = {0: "main"}
MS = 1_000_000


class Chain:
    """Two links and their parties, each of which notes into its own ring."""

    def __init__(self, every=1, policy="block"):
        self.rings = TraceRings("test", every, {"decode": 1, "inference": 2, "egress": 1})
        self.raw = FrameLink("raw", 3, policy, FrameFormat(16, 16))
        self.styled = FrameLink("styled", 3, "block", FrameFormat(16, 16))
        for link in (self.raw, self.styled):
            link.table.on_end = self.rings.own.end
        self.decode, self.inference, self.egress = (
            FrameTracer(self.rings.boot(stage)) for stage in ("decode", "inference", "egress")
        )
        self.decode_out = LinkWriter(self.raw.boot, owner=1)
        self.inference_in = open_reader(self.raw.boot, owner=1, tracer=self.inference)
        self.inference_out = LinkWriter(self.styled.boot, owner=1)
        self.egress_in = open_reader(self.styled.boot, owner=1)
        self.arrived_ns = 0

    def decode_frame(self, seq):
        slot = self.decode_out.acquire(seq=seq, pts=3000 * seq, epoch=0, arrived_ns=1 * MS)
        self.decode.begin(self.decode_out.table, slot, 3 * MS)
        self.decode_out.publish(slot)

    def process(self, verdict=Outcome.DELIVERED):
        slot = self.inference_in.take(0)
        target = self.inference_out.acquire(
            seq=slot.seq, pts=slot.pts, epoch=0, arrived_ns=slot.arrived_ns, verdict=verdict
        )
        if verdict is not Outcome.ADDED:
            self.inference.pass_on(slot, self.inference_out.table, target)
        self.inference_out.publish(target)
        self.inference_in.release(slot, Outcome.DELIVERED)

    def show(self):
        slot = self.egress_in.take(0)
        note = self.egress.ending(slot, slot.verdict, encoded_ns=slot.held_ns + 2)
        self.egress_in.release(slot, slot.verdict)
        if note is not None:
            note()

    def traces(self):
        return self.rings.read(STREAMS)

    def close(self):
        for end in (self.inference_in, self.egress_in, self.decode_out, self.inference_out, self.raw, self.styled):
            end.close()
        for tracer in (self.decode, self.inference, self.egress):
            tracer.close()
        self.rings.close()


@pytest.fixture
def make_chain():
    made = []

    def make(*arguments, **keys):
        made.append(Chain(*arguments, **keys))
        return made[-1]

    yield make
    for chain in made:
        chain.close()


@pytest.mark.parametrize("every", [1, 2, 7, 30])
def test_one_frame_in_so_many_is_traced_at_every_place_of_a_key_frame_interval(every):
    count = every * every * 4
    traced = [seq for seq in range(count) if is_traced(seq, every)]
    assert len(traced) == count / every
    assert set(Counter(seq % every for seq in traced).values()) == {4}


def test_none_is_traced_when_it_is_off():
    assert not any(is_traced(seq, 0) for seq in range(100))
    FrameTracer(None).no_slot(0, 0, 0, 0, 0)


def test_a_delivered_frame_has_every_hop_and_they_add_up(make_chain):
    chain = make_chain()
    chain.decode_frame(0)
    chain.process()
    chain.show()
    traces = chain.traces()
    (trace,) = traces.traces
    assert (trace.stream, trace.epoch, trace.seq, trace.pts, trace.outcome) == ("main", 0, 0, 0, "delivered")
    assert tuple(hop.name for hop in trace.hops) == HOPS
    assert sum(hop.ms for hop in trace.hops) == pytest.approx(trace.total_ms, abs=0.01)
    hops = {hop.name: hop for hop in trace.hops}
    assert hops["wait_decode"].ms == 2.0
    assert hops["decode"].start_ms == 2.0
    assert all(later.start_ms >= hop.start_ms for hop, later in zip(trace.hops, trace.hops[1:], strict=False))
    assert [(hop.name, hop.count) for hop in traces.hops] == [(name, 1) for name in (*HOPS, "total")]
    assert next(hop.p50_ms for hop in traces.hops if hop.name == "total") == trace.total_ms


def test_a_frame_that_is_being_sent_ends_when_it_was_and_keeps_the_times_it_had(make_chain):
    chain = make_chain()
    chain.decode_frame(0)
    chain.process()
    slot = chain.egress_in.take(0)
    note = chain.egress.ending(slot, slot.verdict, encoded_ns=slot.held_ns)
    chain.egress_in.release(slot, slot.verdict)
    for seq in range(1, 5):
        chain.decode_frame(seq)
        chain.process()
        chain.show()
    assert [trace.seq for trace in chain.traces().traces] == [4, 3, 2, 1]
    note()
    newest = chain.traces().traces[0]
    assert (newest.seq, newest.pts, len(newest.hops)) == (0, 0, len(HOPS))


def test_only_one_in_so_many_is_noted(make_chain):
    chain = make_chain(every=3)
    for seq in range(9):
        chain.decode_frame(seq)
        chain.process()
        chain.show()
    assert [trace.seq for trace in chain.traces().traces] == [8, 4, 0]


def test_a_frame_that_came_too_late_for_inference_says_where_it_waited(make_chain):
    chain = make_chain(policy="latest")
    assert isinstance(chain.inference_in, LatestReader)
    for seq in range(2):
        chain.decode_frame(seq)
    slot = chain.inference_in.take(1)
    assert slot.seq == 1
    (trace,) = chain.traces().traces
    assert (trace.seq, trace.outcome, trace.hops[-1].name) == (0, "late", "wait_inference")
    assert [hop.count for hop in chain.traces().hops] == [0] * (len(HOPS) + 1)
    chain.inference_in.release(slot, Outcome.WITHHELD)


def test_a_frame_that_found_no_slot_ended_in_decode(make_chain):
    chain = make_chain()
    chain.decode.no_slot(0, 0, 0, 1 * MS, 2 * MS)
    (trace,) = chain.traces().traces
    assert (trace.outcome, trace.hops[-1].name) == ("no_slot", "decode")


def test_a_frame_that_stands_in_for_one_that_failed_went_all_the_way(make_chain):
    chain = make_chain()
    chain.decode_frame(0)
    chain.process(Outcome.PROCESSOR_ERROR)
    chain.show()
    (trace,) = chain.traces().traces
    assert (trace.outcome, len(trace.hops)) == ("processor_error", len(HOPS))


def test_a_picture_that_was_added_is_no_frame(make_chain):
    chain = make_chain()
    chain.decode_frame(0)
    chain.process(Outcome.ADDED)
    chain.show()
    assert chain.traces().traces == []


def test_a_frame_that_died_with_its_stage_is_noted_by_the_launcher(make_chain):
    chain = make_chain()
    chain.decode_frame(0)
    for _ in range(2):
        assert chain.inference_in.take(0) is not None
        chain.raw.table.reclaim_consumer()
        ring(chain.raw.boot.ready_fd)
    (trace,) = chain.traces().traces
    assert (trace.outcome, trace.hops[-1].name) == ("poison", "process")


def test_two_threads_of_a_process_write_whole_records(make_chain, monkeypatch):
    """The worker's, and the one that frees what came too late."""
    tracer = make_chain().inference
    writing, torn = [], []

    def write(record):
        torn.extend(writing)
        writing.append(record)
        time.sleep(0.001)  # The other one has its turn, if it may.
        writing.remove(record)

    monkeypatch.setattr(tracer._ring, "write", write)
    threads = [threading.Thread(target=lambda: [tracer.no_slot(n, 0, 0, 1, 1) for n in range(20)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []


def test_no_memory_is_made_when_nothing_is_traced():
    rings = TraceRings("test", 0, {"decode": 1})
    assert rings.boot("decode") is None
    assert rings.read(STREAMS).every == 0
    rings.close()


def test_every_process_has_a_ring_of_its_own(make_chain):
    rings = make_chain().rings
    boots = [rings.boot(*where) for where in (("",), ("decode",), ("inference",), ("inference", 1), ("egress",))]
    assert [boot.ring for boot in boots if isinstance(boot, TraceBoot)] == [0, 1, 2, 3, 4]
    assert rings.boot("relay") is None

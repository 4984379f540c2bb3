"""What the launcher holds for a topology: memory, listeners, and who is joined to whom."""

import os
import socket
from pathlib import Path

import pytest

from pipeline.doorbell import BellListener
from pipeline.encoded_link import NO_SEGMENT, Cursor
from pipeline.lane import NO_STREAM
from pipeline.listeners import PortInUse
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import IN_USE, READY, ConsumerTable, Outcome, ProducerTable
from pipeline.memory.stage_stats import StageStats, Word
from pipeline.messages import StreamBegin
from pipeline.plan import plan_of
from pipeline.status import StreamSpec
from pipeline.topology_changes import NeedsNewStart
from pipeline.topology_file import load_topology
from pipeline.topology_sections import Sink, Source
from pipeline.wiring import Wiring
from pipeline.worker_boots import worker_boot

DEMO = Path(__file__).resolve().parents[1] / "configs/demo.yaml"
SMALL = {"relay.port": 0, "api.port": 0, "frame.width": 16, "frame.height": 16}


@pytest.fixture
def wiring(held_dir):
    wiring = Wiring(load_topology(DEMO, SMALL), held_dir)
    yield wiring
    wiring.close()


class Chain:
    """Decode, inference and egress as far as the tables see them."""

    def __init__(self, wiring):
        self.wiring = wiring
        self.decode = self.attach("raw", ProducerTable)
        self.inference_in = self.attach("raw", ConsumerTable)
        self.inference_out = self.attach("styled", ProducerTable)
        self.egress = self.attach("styled", ConsumerTable)

    def attach(self, link, kind):
        boot = self.wiring.links[link].boot
        return kind(Slab(boot.fd), boot.slots, boot.format.nbytes)

    def decode_frame(self):
        slot = self.decode.free_slot()
        self.decode.begin(slot, self.decode.next_seq(), 0, 0, 0, owner=1)
        self.decode.publish(slot, 0)

    def take(self):
        slot = self.inference_in.ready()[0]
        self.inference_in.take(slot, owner=1)
        return slot

    def begin(self, source):
        target = self.inference_out.free_slot()
        self.inference_out.begin(target, source.seq, 0, 0, 0, owner=1)
        return target

    def deliver(self):
        slot = self.egress.ready()[0]
        self.egress.take(slot, owner=1)
        self.egress.finish(slot, Outcome.DELIVERED)


@pytest.fixture
def chain(wiring):
    return Chain(wiring)


def test_services_come_before_the_stages(wiring):
    stages = ["publisher", "ingress", "decode", "inference", "egress", "recorder"]
    assert wiring.stage_names() == ["relay", "api", *stages]


def test_a_free_port_is_found_and_named(wiring):
    port = wiring.listeners.services["relay"].getsockname()[1]
    assert wiring.relay_url == f"http://127.0.0.1:{port}"
    assert wiring.api_url == f"http://127.0.0.1:{wiring.listeners.services['api'].getsockname()[1]}"


def test_without_services_there_are_no_addresses(held_dir):
    topology = load_topology(DEMO.with_name("file.yaml"), {"frame.width": 16, "frame.height": 16})
    wiring = Wiring(topology, held_dir)
    assert (wiring.relay_url, wiring.api_url, wiring.listeners.services) == (None, None, {})
    wiring.close()


def test_a_port_that_is_taken_is_named_with_its_key(held_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PortInUse, match=rf"^api\.port: cannot listen on 127\.0\.0\.1 port {port}: .*api\.port"):
            Wiring(load_topology(DEMO, SMALL | {"api.port": port}), held_dir)
        assert len(os.listdir("/proc/self/fd")) == before


def test_closing_gives_every_descriptor_back(held_dir):
    before = len(os.listdir("/proc/self/fd"))
    wiring = Wiring(load_topology(DEMO, SMALL), held_dir)
    wiring.close()
    assert len(os.listdir("/proc/self/fd")) == before


# Streams on request


@pytest.fixture
def on_request(held_dir):
    topology = load_topology(
        DEMO.with_name("api.yaml"), SMALL | {"relay.media_ports": [], "relay.publish_tokens": ["${OURS}"]}
    )
    wiring = Wiring(topology, held_dir)
    yield wiring
    wiring.close()


def open_stream(wiring, stream, lane=0):
    wiring.open_stream(wiring.lanes[lane], stream)


def test_before_the_first_stream_the_links_are_as_after_one(on_request):
    assert all(link.ended for link in on_request.link_status())
    boot = worker_boot(on_request, "inference", 1)
    (lane,) = boot.lanes
    assert (lane.stream, lane.epoch, boot.on_request) == ("", NO_STREAM, True)


def test_the_stages_of_a_stream_are_told_what_it_brings(on_request):
    open_stream(on_request, StreamSpec("a", "in", "https://server.example/out", width=8, height=4))
    boots = {name: worker_boot(on_request, name, 1) for name in on_request.topology.stages}
    told = {(boots[name].stream, boots[name].epoch) for name in ("ingress", "decode", "egress")}
    assert told | {(lane.stream, lane.epoch) for lane in boots["inference"].lanes} == {("a", 0)}
    assert boots["ingress"].spec.source == Source(trickle="in")
    assert boots["egress"].spec.sink == Sink(trickle="https://server.example/out")
    assert (boots["ingress"].relay_token, boots["egress"].relay_token) == ("${OURS}", None)
    judged = {name: boot.allow_private for name, boot in boots.items()}
    assert judged == {"ingress": True, "decode": None, "inference": None, "egress": True}, "the api is for this machine"
    sizes = {name: (boot.frame.width, boot.frame.height) for name, boot in boots.items()}
    assert sizes == {"ingress": (8, 4), "decode": (8, 4), "inference": (16, 16), "egress": (8, 4)}
    assert boots["ingress"].source_timeout == on_request.topology.streams.source_timeout


def test_a_stream_finds_nothing_of_the_one_before(on_request):
    open_stream(on_request, StreamSpec("a", "in", "out"))
    chain = Chain(on_request)
    chain.decode_frame()
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    chain.inference_in.finish(source, Outcome.DELIVERED)
    chain.deliver()
    chain.decode.end()
    chain.inference_out.end()
    cursor = Cursor(worker_boot(on_request, "decode", 1).encoded.fd)
    cursor.move(7, 100)
    cursor.base = 3
    for name in ("decode", "egress"):
        stats = StageStats(worker_boot(on_request, name, 1).stats_fd)
        stats.out()
        stats[Word.MEDIA_TICKS] = 9000

    open_stream(on_request, StreamSpec("b", "in", "out"))

    assert on_request.lanes[0].begin == StreamBegin(0, "b", 1)
    assert (cursor.segment, cursor.offset, cursor.base) == (NO_SEGMENT, 0, 0)
    assert not any(link.ended for link in on_request.link_status())
    assert all(link.table.last_pts is None for link in on_request.links.values())
    (egress,) = on_request.stats["egress"]
    assert [egress[word] for word in (Word.MEDIA_TICKS, Word.FIRST_OUT_NS, Word.LAST_OUT_NS)] == [0, 0, 0]
    assert egress[Word.UNITS_OUT] == 1, "counters go on"
    assert_count(on_request, delivered=1, in_flight=0)


@pytest.fixture
def pool(held_dir):
    """Five lanes, and two replicas of inference."""
    changes = {"relay.media_ports": [], "streams.max": 5, "stages.inference.devices": ["cpu", "cuda:3"]}
    wiring = Wiring(load_topology(DEMO.with_name("api.yaml"), SMALL | changes), held_dir)
    yield wiring
    wiring.close()


def test_replicas_of_inference_share_the_lanes(pool):
    assert [name for name in pool.stage_names() if name.startswith("inference")] == ["inference.1", "inference.2"]
    boots = [worker_boot(pool, name, 1) for name in ("inference.1", "inference.2")]
    assert [boot.device for boot in boots] == ["cpu", "cuda:3"]
    assert [boot.section for boot in boots] == ["stages.inference", "stages.inference"]
    assert [[lane.number for lane in boot.lanes] for boot in boots] == [[0, 2, 4], [1, 3]]
    assert [lane.input.name for lane in boots[1].lanes] == ["raw.2", "raw.4"]
    assert {(status.link, status.consumer) for status in pool.link_status() if status.producer == "decode.4"} == {
        ("raw.4", "inference.2")
    }
    plan = {stage.stage: stage for stage in plan_of(pool, None).stages}
    assert plan["inference.2"].serves == ("decode.2", "decode.4")


def test_what_one_replica_held_is_taken_back_and_no_more(pool):
    held = []
    for lane in (0, 1):
        open_stream(pool, StreamSpec(f"s{lane}", f"in{lane}", f"out{lane}"), lane)
        boot = pool.lanes[lane].raw.boot
        decode, inference = (
            kind(Slab(boot.fd), boot.slots, boot.format.nbytes) for kind in (ProducerTable, ConsumerTable)
        )
        slot = decode.free_slot()
        decode.begin(slot, decode.next_seq(), 0, lane, 0, owner=1)
        decode.publish(slot, 0)
        inference.take(slot, owner=1)
        held.append(slot)
    assert pool.reclaim("inference.2")["retried"] == 1
    assert [slot.state for slot in held] == [IN_USE, READY]


def test_what_is_changed_in_one_replica_is_told_to_all(pool):
    pool.change_params("inference.2", {"strength": 0.5})
    assert worker_boot(pool, "inference.1", 2).spec.processor.params == {"strength": 0.5}
    assert pool.params("inference.1") == {"strength": 0.5}


def test_what_its_egress_will_not_take_is_counted(on_request):
    open_stream(on_request, StreamSpec("a", "in", "out"))
    chain = Chain(on_request)
    chain.decode_frame()
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    chain.inference_in.finish(source, Outcome.DELIVERED)
    on_request.lanes[0].styled.discard()
    assert_count(on_request, delivered=0, in_flight=0, shutdown=1)


# The equation, and deaths in it


def assert_count(wiring, **expected):
    count = wiring.frame_count()
    assert count.balanced
    assert {"delivered": count.delivered, "in_flight": count.in_flight, **count.dropped} == expected


def test_a_frame_counts_once_wherever_it_is(wiring, chain):
    assert_count(wiring, delivered=0, in_flight=0)
    chain.decode_frame()
    assert_count(wiring, delivered=0, in_flight=1)
    source = chain.take()
    assert_count(wiring, delivered=0, in_flight=1)
    target = chain.begin(source)
    assert_count(wiring, delivered=0, in_flight=1)
    chain.inference_out.publish(target, 0)
    assert_count(wiring, delivered=0, in_flight=1)
    chain.inference_in.finish(source, Outcome.DELIVERED)
    assert_count(wiring, delivered=0, in_flight=1)
    chain.deliver()
    assert_count(wiring, delivered=1, in_flight=0)


def test_a_frame_that_was_delivered_before_its_first_slot_was_freed_counts_once(wiring, chain):
    chain.decode_frame()
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    chain.deliver()
    assert_count(wiring, delivered=1, in_flight=0)


def test_drops_of_every_stage_are_in_the_equation(wiring, chain):
    chain.decode.drop(Outcome.NO_SLOT)
    for _ in range(3):
        chain.decode_frame()
    chain.inference_in.finish(chain.take(), Outcome.PROCESSOR_ERROR)
    chain.inference_in.finish(chain.take(), Outcome.LATE)
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    chain.inference_in.finish(source, Outcome.DELIVERED)
    slot = chain.egress.ready()[0]
    chain.egress.take(slot, owner=1)
    chain.egress.finish(slot, Outcome.LATE)
    assert_count(wiring, delivered=0, in_flight=0, no_slot=1, processor_error=1, late=2)


@pytest.mark.parametrize("progress", ["taken", "begun", "published"])
def test_the_death_of_inference_loses_no_frame_and_doubles_none(wiring, chain, progress):
    chain.decode_frame()
    source = chain.take()
    if progress != "taken":
        target = chain.begin(source)
    if progress == "published":
        chain.inference_out.publish(target, 0)

    done = wiring.reclaim("inference")

    passed_on = progress == "published"
    assert done == {"filling": int(progress == "begun"), "retried": int(not passed_on), "dropped": 0}
    assert_count(wiring, delivered=0, in_flight=1)
    assert len(chain.inference_in.ready()) == (not passed_on)
    assert wiring.reclaim("inference") == {"filling": 0, "retried": 0, "dropped": 0}


def test_a_frame_that_decode_dies_on_is_counted_as_crash(wiring, chain):
    slot = chain.decode.free_slot()
    chain.decode.begin(slot, 0, 0, 0, 0, owner=1)
    assert wiring.reclaim("decode") == {"filling": 1}
    assert_count(wiring, delivered=0, in_flight=0, crash=1)


def test_a_committed_frame_that_egress_dies_on_is_counted_as_crash(wiring, chain):
    chain.decode_frame()
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    chain.inference_in.finish(source, Outcome.DELIVERED)
    slot = chain.egress.ready()[0]
    chain.egress.take(slot, owner=1)
    chain.egress.commit(slot)
    assert wiring.reclaim("egress") == {"retried": 0, "dropped": 1}
    assert_count(wiring, delivered=0, in_flight=0, crash=1)


@pytest.mark.parametrize("stage", ["relay", "api", "ingress", "publisher", "recorder"])
def test_there_is_nothing_to_reclaim_of_who_holds_no_frames(wiring, stage):
    assert wiring.reclaim(stage) == {}


def test_the_end_is_told_in_a_failed_stages_place(wiring, chain):
    wiring.end_output("decode")
    assert chain.inference_in.ended
    assert not chain.egress.ended
    for stage in ("relay", "ingress", "egress"):
        wiring.end_output(stage)
    assert not chain.egress.ended


def test_what_is_left_at_the_end_is_counted_as_shutdown(wiring, chain):
    for _ in range(3):
        chain.decode_frame()
    source = chain.take()
    chain.inference_out.publish(chain.begin(source), 0)
    for stage in ("decode", "inference", "egress"):
        wiring.reclaim(stage)
    assert wiring.abandon() == 3
    assert_count(wiring, delivered=0, in_flight=0, shutdown=3)


def test_a_links_status_balances(wiring, chain):
    chain.decode.drop(Outcome.NO_SLOT)
    chain.decode_frame()
    status = next(status for status in wiring.link_status() if status.link == "raw")
    assert (status.producer, status.consumer, status.policy) == ("decode", "inference", "latest")
    assert (status.begun, status.published, status.in_flight, status.outcomes) == (1, 2, 1, {"no_slot": 1})
    assert not status.ended


def test_a_links_status_says_who_holds_which_slot(wiring, chain):
    for _ in range(3):
        chain.decode_frame()
    chain.take()
    chain.decode.begin(chain.decode.free_slot(), 3, 0, 0, 0, owner=7)
    slots = next(status for status in wiring.link_status() if status.link == "raw").slots
    assert [(slot.state, slot.seq, slot.owner) for slot in slots[:4]] == [
        ("IN_USE", 0, "inference#1"),
        ("READY", 1, ""),
        ("READY", 2, ""),
        ("FILLING", 3, "decode#7"),
    ]
    assert all(slot.age_ms >= 0 for slot in slots)


def test_a_reclaim_rings_for_the_dead(wiring, chain):
    bells = wiring.links["raw"].boot, wiring.links["styled"].boot
    wiring.reclaim("inference")
    assert BellListener(bells[0].free_fd).wait(0), "decode, which may wait for a slot that inference had freed"
    assert BellListener(bells[1].ready_fd).wait(0), "egress, which may wait for a frame that inference had published"


# A topology that has changed


def changed(**settings):
    return load_topology(DEMO, SMALL | settings)


def test_only_stages_whose_part_has_changed_are_named(wiring):
    assert wiring.adopt(changed()) == []
    assert wiring.adopt(changed(**{"stages.egress.encoder.bitrate": "900k", "stages.decode.audio": False})) == [
        "decode",
        "egress",
    ]
    assert wiring.topology.stages["decode"].audio is False


def test_levels_of_the_log_need_no_restart_and_replace_what_was_set_meanwhile(wiring):
    wiring.change_log_level("decode", "ERROR")
    assert worker_boot(wiring, "decode", 1).log_level == "ERROR"
    assert worker_boot(wiring, "egress", 1).log_level == "INFO"
    assert wiring.adopt(changed(**{"logs.level": "WARNING", "logs.stages": {"egress": "DEBUG"}})) == []
    assert [worker_boot(wiring, stage, 2).log_level for stage in ("decode", "egress")] == ["WARNING", "DEBUG"]


def test_budgets_and_limits_need_no_restart(wiring):
    topology = changed(**{"restart.max_restarts": 9, "stages.decode.limits": {"heartbeat": 1}})
    assert wiring.adopt(topology) == []
    assert wiring.topology is topology


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"frame.width": 32}, "frame"),
        ({"links.raw.slots": 9}, "links"),
        ({"relay.port": 5679}, "relay"),
        ({"stages.inference.spares": 1}, "spares"),
        ({"logs.format": "json"}, "logs.format"),
        ({"logs.file": {"path": "other.log"}}, "logs.file"),
    ],
)
def test_what_outlives_the_stages_cannot_change(wiring, setting, key):
    before = wiring.topology
    with pytest.raises(NeedsNewStart, match=key):
        wiring.adopt(changed(**setting))
    assert wiring.topology is before


def test_a_size_that_the_slots_hold_is_taken_up_by_decode_alone(held_dir):
    roomy = {"links.raw.max_frame": {"width": 32, "height": 32}, "links.styled.max_frame": {"width": 32, "height": 32}}
    wiring = Wiring(load_topology(DEMO, SMALL | roomy), held_dir)
    larger = load_topology(DEMO, SMALL | roomy | {"frame.width": 32})
    assert wiring.adopt(larger) == ["decode"]
    assert worker_boot(wiring, "decode", 1).frame.width == 32
    wiring.close()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"width": 18, "max_fps": 5}, "max_fps: not known here; allowed: width, height, fit"),
        ({"width": "wide"}, "Expected `int`, got `str` - at `\\$.width`"),
        ({"width": 18}, "18x16 does not fit in the slots of links.raw, made for 16x16; allowed"),
        ({"fit": "squeeze"}, "Invalid enum value 'squeeze'"),
    ],
)
def test_a_frame_that_cannot_be_is_refused_in_words(wiring, params, said):
    with pytest.raises(ValueError, match=said):
        wiring.frame_after("decode", params)


def test_what_a_change_of_the_frame_does_not_name_stays(wiring):
    frame = wiring.frame_after("decode", {"fit": "pad"})
    assert (frame.width, frame.height, frame.fit) == (16, 16, "pad")


# What is told of it


def test_the_plan_names_stages_links_channels_and_the_processors_parameters(wiring):
    plan = plan_of(wiring, None)
    stages = {stage.stage: stage for stage in plan.stages}
    assert list(stages)[:2] == ["relay", "api"]
    assert (stages["ingress"].reads, stages["egress"].writes) == ("input", "output")
    assert (stages["decode"].input, stages["decode"].output) == ("encoded", "raw")
    assert (stages["publisher"].writes, stages["publisher"].file) == ("input", "out/source.ts")
    assert (stages["recorder"].reads, stages["recorder"].file) == ("output", "out/demo.mp4")
    assert stages["inference"].runs == "callable pipeline.processors.torch_ops:edges"
    assert (plan.kind, plan.on_request, plan.has_relay) == ("callable", False, True)
    assert [(each.name, each.value) for each in plan.parameters] == [("strength", 3.0), ("mix", 0.65)]
    assert plan_of(wiring, []).parameters == [], "what the processor says itself comes first"


def test_the_plan_of_a_stream_on_request_is_that_of_the_stream(on_request):
    ends = [stage for stage in plan_of(on_request, None).stages if stage.worker in ("ingress", "egress")]
    assert [(end.reads, end.writes) for end in ends] == [("", ""), ("", "")]
    open_stream(on_request, StreamSpec("a", "in", "out", width=8, height=4))
    plan = plan_of(on_request, None)
    ends = {stage.worker: stage for stage in plan.stages}
    assert (ends["ingress"].reads, ends["egress"].writes) == ("in", "out")
    assert ((plan.frame.width, plan.frame.height), (plan.largest.width, plan.largest.height)) == ((8, 4), (16, 16))

"""What workers are told, of one demo."""

import os
from pathlib import Path

import msgspec
import pytest

from pipeline.boot import WorkerBoot
from pipeline.topology_file import load_topology
from pipeline.wiring import Wiring
from pipeline.worker_boots import encode_boot, inherited_fds, worker_boot

DEMO = Path(__file__).resolve().parents[1] / "configs/demo.yaml"
SMALL = {"relay.port": 0, "api.port": 0, "frame.width": 16, "frame.height": 16}


@pytest.fixture
def wiring(held_dir):
    wiring = Wiring(load_topology(DEMO, SMALL), held_dir)
    yield wiring
    wiring.close()


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("relay", {"listen_fd"}),
        ("ingress", {"encoded"}),
        ("decode", {"encoded", "output", "audio_endpoint"}),
        ("inference", {"lanes"}),
        ("egress", {"input", "audio_endpoint"}),
        ("publisher", set()),
        ("recorder", set()),
    ],
)
def test_each_worker_is_told_its_part_and_no_more(wiring, stage, parts):
    boot = worker_boot(wiring, stage, 3)
    told = {
        name
        for name in ("listen_fd", "encoded", "input", "output", "audio_endpoint", "lanes")
        if getattr(boot, name) not in (None, ())
    }
    assert told == parts
    assert (boot.stage, boot.incarnation, boot.launcher_pid) == (stage, 3, os.getpid())


def test_neighbours_are_joined_by_the_same_memory_and_sockets(wiring):
    boots = {stage: worker_boot(wiring, stage, 1) for stage in wiring.stage_names()}
    (lane,) = boots["inference"].lanes
    assert boots["decode"].output == lane.input
    assert lane.output == boots["egress"].input
    assert boots["ingress"].encoded == boots["decode"].encoded
    assert boots["decode"].audio_endpoint == lane.audio_endpoint == boots["egress"].audio_endpoint
    assert boots["decode"].output.fd != boots["egress"].input.fd


def test_a_worker_inherits_all_that_it_is_told_of(wiring):
    boot = worker_boot(wiring, "decode", 1)
    link = boot.output
    assert sorted(inherited_fds(boot)) == sorted(
        [boot.stats_fd, boot.trace.fd, boot.encoded.fd, link.fd, link.ready_fd, link.free_fd]
    )
    assert worker_boot(wiring, "api", 1).listen_fd in inherited_fds(worker_boot(wiring, "api", 1))


def test_no_two_stages_share_their_counters(wiring):
    fds = [worker_boot(wiring, stage, 1).stats_fd for stage in wiring.stage_names()]
    assert len(set(fds)) == len(fds)


@pytest.mark.parametrize("stage", ["relay", "ingress", "decode", "inference", "egress", "publisher", "recorder"])
def test_what_a_worker_is_told_comes_through_its_descriptor(wiring, stage):
    boot = worker_boot(wiring, stage, 1)
    with open(encode_boot(boot), "rb") as file:
        assert msgspec.msgpack.decode(file.read(), type=WorkerBoot) == boot

"""The launcher's part of a recording: who may record, what it is told, and when it is taken to be gone."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.lane import Lane
from pipeline.messages import Record, RecordAnswer, RecordEndRequest, RecordRequest
from pipeline.recording import lease as lease_module
from pipeline.recording.lease import RecordingLease
from pipeline.recording.target import Target
from pipeline.run_dir import RunDir
from pipeline.status import StreamSpec
from pipeline.topology_file import load_topology
from pipeline.wiring import Wiring
from pipeline.worker_boots import worker_boot

DEMO = Path(__file__).resolve().parents[2] / "configs/demo.yaml"
API = DEMO.with_name("api.yaml")
SPINE = ("ingress", "decode", "inference", "egress")
SMALL = {"relay.port": 0, "api.port": 0, "frame.width": 16, "frame.height": 16}
SECRET = {
    "relay.publish_tokens": ["a-token-for-tests"],
    "stages.egress.sink": {"trickle": "https://me:pw@server.example/out?key=hidden-key"},
}


class Launcher:
    """Streams on request run where `run` has put them, the stream of a file's own on its one lane."""

    def __init__(self, wiring: Wiring) -> None:
        self.told: dict[str, str] = {}
        self.said: list[str] = []
        self.wiring = wiring
        self.running: dict[str, Lane] = {} if wiring.topology.streams.on_request else {"main": wiring.lanes[0]}
        keeper: Any = SimpleNamespace(tell=self._tell, of_kind=self._of_kind)
        self.lease = RecordingLease(wiring, keeper, lambda _level, _source, name, **_: self.said.append(name))

    def run(self, stream: str, lane: int) -> None:
        self.running[stream] = self.wiring.lanes[lane]
        self.wiring.open_stream(self.running[stream], StreamSpec(stream, f"{stream}-in", f"{stream}-out"))

    def ask(self, recording: str = "r1", stream: str = "", epoch: int | None = None) -> RecordAnswer:
        return self.lease.ask(RecordRequest(recording, stream, epoch), self.running)

    def taps(self) -> dict[str, str]:
        """What each stage would be started with."""
        boots = {name: worker_boot(self.wiring, name, 1) for name in self.wiring.stage_names()}
        return {name: boot.tap.recording for name, boot in boots.items() if boot.tap is not None}

    def _of_kind(self, kind: type) -> list[Any]:
        names = self.wiring.stage_names()
        return [SimpleNamespace(name=name) for name in names if isinstance(self.wiring.file_spec(name), kind)]

    def _tell(self, stage: Any, order: Record) -> None:
        self.told[stage.name] = order.recording


@pytest.fixture
def launcher(held_dir: RunDir) -> Iterator[Launcher]:
    wiring = Wiring(load_topology(DEMO, SMALL | SECRET), held_dir)
    yield Launcher(wiring)
    wiring.close()


@pytest.fixture
def box(held_dir: RunDir) -> Iterator[Launcher]:
    """Of three streams, on request, and two replicas of inference."""
    several = {"streams.max": 3, "stages.inference.replicas": 2}
    wiring = Wiring(load_topology(API, SMALL | several), held_dir)
    yield Launcher(wiring)
    wiring.close()


def test_the_stages_are_told_when_a_recording_begins_and_ends(launcher: Launcher) -> None:
    assert launcher.taps()["egress"] == ""
    assert launcher.ask().ok
    assert launcher.ask().ok
    assert (launcher.told, launcher.said) == (dict.fromkeys(SPINE, "r1"), ["recording_begins"])
    assert launcher.taps()["egress"] == "r1"
    assert launcher.lease.end(RecordEndRequest("r1")).ok
    assert (launcher.told, launcher.said[1:]) == (dict.fromkeys(SPINE, ""), ["recording_ends"])


def test_a_second_recorder_is_turned_away(launcher: Launcher) -> None:
    launcher.ask()
    answer = launcher.ask("r2")
    assert (answer.ok, answer.text) == (False, "demo is being recorded already; one recording at a time")
    assert not launcher.lease.end(RecordEndRequest("r2")).ok
    assert launcher.wiring.target.recording == "r1"


def test_a_recorder_that_is_not_heard_of_is_gone(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher.ask()
    launcher.lease.expire()
    assert launcher.wiring.target.recording == "r1"
    now = lease_module.time.monotonic() + lease_module.RECORD_LEASE_SECONDS + 1
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: now))
    launcher.lease.expire()
    assert (launcher.wiring.target, launcher.said[-1]) == (Target(), "recorder_is_gone")
    assert launcher.ask("r2").ok


def test_of_several_streams_one_has_to_be_named_and_the_others_tell_nothing(box: Launcher) -> None:
    box.run("a", 0)
    box.run("b", 2)
    answer = box.ask()
    assert (answer.ok, answer.text) == (False, "a, b run: name the stream that is to be recorded")
    assert set(box.taps().values()) == {""}

    answer = box.ask(stream="b")
    assert (answer.ok, answer.stream, answer.epoch) == (True, "b", 1)
    of_b = {"ingress.3", "decode.3", "inference.1", "inference.2", "egress.3"}
    assert {name for name, recording in box.taps().items() if recording} == of_b
    assert {name for name, recording in box.told.items() if recording} == of_b
    assert set(answer.stages) & {*of_b, "ingress.1", "ingress.2"} == of_b - {"inference.2"}
    assert answer.topology["frame"]["width"] == 16


def test_a_stream_that_is_named_may_be_still_to_come(box: Launcher) -> None:
    box.run("a", 0)
    answer = box.ask(stream="b")
    assert (answer.ok, answer.epoch, answer.topology) == (True, None, {})
    box.run("b", 1)
    assert [name for name, recording in box.taps().items() if recording and name.startswith("ingress")] == ["ingress.2"]
    assert box.ask(stream="b").epoch == 1


def test_without_a_name_it_is_the_only_one_or_the_next_until_one_has_begun(box: Launcher) -> None:
    def recorded() -> list[str]:
        return [name for name, recording in box.taps().items() if recording and name.startswith("ingress")]

    assert box.ask().epoch is None
    assert len(recorded()) == 3
    box.run("a", 0)
    assert box.ask().stream == "a"
    del box.running["a"]  # Before anything of it was recorded.
    box.run("b", 1)
    assert box.ask().stream == "b"
    box.run("c", 2)
    assert box.ask().stream == "b"
    assert box.ask(epoch=1).stream == "b"
    assert recorded() == ["ingress.2"]


def test_a_stream_that_is_over_is_no_other_stream_on_its_lane(box: Launcher) -> None:
    box.run("a", 0)
    assert box.ask(epoch=0).stream == "a"
    box.run("b", 0)
    answer = box.ask(epoch=0)
    assert (answer.ok, answer.epoch, answer.topology) == (True, None, {})
    assert {name for name, recording in box.taps().items() if recording} == {"inference.1", "inference.2"}


def test_what_a_stream_has_of_its_own_is_in_the_topology_of_its_recording(box: Launcher) -> None:
    box.run("a", 0)
    lane = box.wiring.lanes[0]
    lane.params = {"levels": 3}
    assert lane.stream is not None
    lane.stream = msgspec.structs.replace(lane.stream, width=8, height=8)
    recorded = box.ask().topology
    assert recorded["stages"]["inference"]["processor"]["params"]["levels"] == 3
    assert (recorded["frame"]["width"], recorded["frame"]["height"]) == (8, 8)


def test_a_file_has_one_stream(launcher: Launcher) -> None:
    answer = launcher.ask(stream="b")
    assert (answer.ok, answer.text) == (False, "there is no stream 'b'; running: main")


def test_what_opens_channels_is_in_no_recording(launcher: Launcher) -> None:
    answer = launcher.ask()
    assert (answer.pipeline, answer.stream, answer.epoch) == ("demo", "main", 0)
    assert answer.topology["stages"]["egress"]["sink"]["trickle"] == "https://***@server.example/out?***"
    assert all(secret not in str(answer.topology) for secret in ("a-token-for-tests", "hidden-key", "me:pw"))


def test_only_who_sees_the_stream_has_something_to_tell(launcher: Launcher) -> None:
    assert set(launcher.taps()) == set(SPINE)

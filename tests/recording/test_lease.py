"""The launcher's part of a recording: who may record, what it is told, and when it is taken to be gone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.messages import Record, RecordEndRequest, RecordRequest
from pipeline.recording import lease as lease_module
from pipeline.recording.lease import RecordingLease
from pipeline.run_dir import RunDir
from pipeline.topology_file import load_topology
from pipeline.wiring import Wiring
from pipeline.worker_boots import worker_boot

DEMO = Path(__file__).resolve().parents[2] / "configs/demo.yaml"
SMALL = {"relay.port": 0, "api.port": 0, "frame.width": 16, "frame.height": 16}
SECRET = {
    "relay.publish_tokens": ["a-token-for-tests"],
    "stages.egress.sink": {"trickle": "https://me:pw@server.example/out?key=hidden-key"},
}


class Launcher:
    def __init__(self, wiring: Wiring) -> None:
        self.told: list[str] = []
        self.said: list[str] = []
        self.wiring = wiring
        keeper: Any = SimpleNamespace(tell_all=self._tell)
        self.lease = RecordingLease(wiring, keeper, lambda _level, _source, name, **_: self.said.append(name))

    def _tell(self, _kind: type, order: Record) -> None:
        self.told.append(order.recording)


@pytest.fixture
def launcher(short_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    with RunDir("demo") as held:
        wiring = Wiring(load_topology(DEMO, SMALL | SECRET), held)
        yield Launcher(wiring)
        wiring.close()


def test_the_stages_are_told_when_a_recording_begins_and_ends(launcher):
    assert worker_boot(launcher.wiring, "egress", 1).tap.recording == ""
    assert launcher.lease.ask(RecordRequest("r1")).ok
    assert launcher.lease.ask(RecordRequest("r1")).ok
    assert (launcher.told, launcher.said) == (["r1"] * 4, ["recording_begins"])
    assert worker_boot(launcher.wiring, "egress", 2).tap.recording == "r1"
    assert launcher.lease.end(RecordEndRequest("r1")).ok
    assert (launcher.told[4:], launcher.said[1:]) == ([""] * 4, ["recording_ends"])


def test_a_second_recorder_is_turned_away(launcher):
    launcher.lease.ask(RecordRequest("r1"))
    answer = launcher.lease.ask(RecordRequest("r2"))
    assert (answer.ok, answer.text) == (False, "demo is being recorded already; one recording at a time")
    assert not launcher.lease.end(RecordEndRequest("r2")).ok
    assert launcher.wiring.recording == "r1"


def test_a_recorder_that_is_not_heard_of_is_gone(launcher, monkeypatch):
    launcher.lease.ask(RecordRequest("r1"))
    launcher.lease.expire()
    assert launcher.wiring.recording == "r1"
    now = lease_module.time.monotonic() + lease_module.RECORD_LEASE_SECONDS + 1
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: now))
    launcher.lease.expire()
    assert (launcher.wiring.recording, launcher.said[-1]) == ("", "recorder_is_gone")
    assert launcher.lease.ask(RecordRequest("r2")).ok


def test_what_opens_channels_is_in_no_recording(launcher):
    answer = launcher.lease.ask(RecordRequest("r1"))
    assert (answer.pipeline, answer.stream, answer.epoch) == ("demo", "main", 0)
    assert answer.topology["stages"]["egress"]["sink"]["trickle"] == "https://***@server.example/out?***"
    assert all(secret not in str(answer.topology) for secret in ("a-token-for-tests", "hidden-key", "me:pw"))


def test_only_who_sees_the_stream_has_something_to_tell(launcher):
    taps = {stage: worker_boot(launcher.wiring, stage, 1).tap for stage in launcher.wiring.stage_names()}
    assert {stage for stage, tap in taps.items() if tap is not None} == {"ingress", "decode", "inference", "egress"}

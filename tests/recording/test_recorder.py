"""What a recorder keeps of what it is told: one stream, each byte once, and where something is missing."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from pipeline.messages import Answer, RecordAnswer, RecordEndRequest, RecordRequest, SupervisionEvent, Tapped
from pipeline.recording.format import (
    Change,
    End,
    Frame,
    Happened,
    Header,
    Hole,
    Input,
    InputEnd,
    OutputEnd,
    Record,
    RecordingReader,
    RecordingWriter,
    Timeline,
)
from pipeline.recording.recorder import ASKED, FULL, PIPELINE_GONE, STREAM_OVER, RecorderRefused, StreamRecorder
from pipeline.switchboard import Switchboard

PATIENCE_S = 20.0
POLL_MS = 5
TOPOLOGY = {"name": "demo"}


class TapedLauncher:
    """The launcher's end of a recording, and one socket in the place of all stages."""

    def __init__(self, folder: Path) -> None:
        self.control, self.tape = f"ipc://{folder}/control", f"ipc://{folder}/tape"
        self.answer = RecordAnswer(True, "", self.tape, "demo", "main", 0, TOPOLOGY)
        self.asked = self.ended = 0
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._switchboard = Switchboard(self.control)
        self._context = zmq.Context()
        self._stages = self._context.socket(zmq.PUSH)
        self._stages.connect(self.tape)
        self._numbers: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="taped-launcher")
        self._thread.start()

    def tell(self, stage: str, record: Any, epoch: int = 0, *, lose: int = 0, recording: str = "r1") -> None:
        number = self._numbers.get(stage, 0) + lose
        self._numbers[stage] = number + 1
        self._stages.send(msgspec.msgpack.encode(Tapped(recording, stage, number, epoch, record)))

    def announce(self, event: SupervisionEvent) -> None:
        self._orders.put(lambda: self._switchboard.publish(event))

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._switchboard.socket.poll(POLL_MS)
            for sender, message in self._switchboard.messages():
                if isinstance(message, RecordRequest):
                    self.asked += 1
                    self._switchboard.send(sender, self.answer)
                elif isinstance(message, RecordEndRequest):
                    self.ended += 1
                    self._switchboard.send(sender, Answer(True, ""))
            while not self._orders.empty():
                self._orders.get()()
        self._switchboard.close()


class Recording:
    """A recorder at work in a thread of its own."""

    def __init__(self, launcher: TapedLauncher, path: Path) -> None:
        self.launcher = launcher
        self.path = path
        self.limits: dict[str, Any] = {"max_bytes": 1 << 30}
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def start(self, *, goes_on: bool = False) -> None:
        writer = RecordingWriter(self.path, goes_on=goes_on)
        recorder = StreamRecorder(self.launcher.control, writer, "r1", **self.limits)

        def work() -> None:
            recorder.run(self._wake_fd, lambda: True)
            writer.close()

        self._thread = threading.Thread(target=work, name="recorder")
        self._thread.start()

    def stop(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def records(self) -> list[Record]:
        """Once it is over."""
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return list(RecordingReader(self.path))

    def close(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self.stop()
            self._thread.join()
        os.close(self._wake_fd)


@pytest.fixture
def recording(short_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    monkeypatch.setattr("pipeline.recording.recorder.RENEW_SECONDS", 0.05)
    monkeypatch.setattr("pipeline.recording.recorder.TAIL_SECONDS", 0.3)
    launcher = TapedLauncher(short_dir)
    recording = Recording(launcher, tmp_path / "a.rec")
    yield recording
    recording.close()
    launcher.close()


def data(segment: int, offset: int, size: int = 4, *, last: bool = False) -> Input:
    return Input(segment, offset, 1, last, False, bytes([segment]) * size)


def frame(pts: int, at_ns: int = 1) -> Frame:
    return Frame(pts, 0, pts, "delivered", at_ns, 2, 2, b"d", b"s")


def finish(launcher: TapedLauncher, epoch: int = 0) -> None:
    launcher.tell("egress", OutputEnd(1), epoch)
    launcher.tell("ingress", InputEnd(1), epoch)


def until(is_so: Callable[[], bool]) -> None:
    """Nobody tells how far a recorder is but its file, and how often it asks but the launcher's count."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def of_kind(records: list[Record], kind: type) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


def test_a_stream_is_recorded_from_the_start_of_a_segment_to_its_end(recording: Recording) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(3, 100))  # The rest of a segment that nobody could decode.
    launcher.tell("egress", frame(1, at_ns=0))
    for record in (data(4, 0), data(4, 4, last=True), data(5, 0)):
        launcher.tell("ingress", record)
    launcher.tell("inference", Change("inference", {"levels": 2}, 1, 1))
    launcher.tell("egress", frame(2))
    finish(launcher)
    records = recording.records()
    assert isinstance(records[0], Header)
    assert (records[0].pipeline, records[0].stream, records[0].topology) == ("demo", "main", TOPOLOGY)
    assert of_kind(records, Input) == [data(4, 0), data(4, 4, last=True), data(5, 0)]
    assert [each.pts for each in of_kind(records, Frame)] == [2]
    assert of_kind(records, Hole) == []
    assert (records[-1].reason, records[-1].whole) == (STREAM_OVER, True)
    assert launcher.ended == 1


def test_what_egress_shows_of_the_first_bytes_is_kept_though_it_is_here_before_them(recording: Recording) -> None:
    """Each stage tells on its own, and what they told is taken in no order."""
    launcher = recording.launcher
    recording.start()
    for pts, epoch, at_ns in ((1, 0, 0), (2, 0, 1), (3, 1, 1)):
        launcher.tell("egress", frame(pts, at_ns), epoch)
    launcher.tell("ingress", data(4, 0))
    finish(launcher)
    records = recording.records()
    assert isinstance(records[0], Header)
    assert [each.pts for each in of_kind(records, Frame)] == [2]


def test_bytes_that_an_ingress_reads_again_are_kept_once(recording: Recording) -> None:
    launcher = recording.launcher
    recording.start()
    for record in (data(1, 0), data(1, 4), data(1, 0, 6), data(1, 6, last=True), data(1, 0), data(1, 4, 6, last=True)):
        launcher.tell("ingress", record)
    launcher.tell("ingress", data(2, 0))
    finish(launcher)
    kept = of_kind(recording.records(), Input)
    assert [(each.segment, each.offset, len(each.data), each.last) for each in kept] == [
        (1, 0, 4, False),
        (1, 4, 4, False),
        (1, 8, 2, True),
        (2, 0, 4, False),
    ]


@pytest.mark.parametrize("missing", ["middle", "boundary"])
def test_a_hole_in_the_input_is_told_and_gone_on_behind(recording: Recording, missing: str) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(1, 0))
    launcher.tell("ingress", data(1, 8) if missing == "middle" else data(2, 4), lose=2)
    for record in (data(2, 8, last=True), data(3, 0), data(3, 4)):
        launcher.tell("ingress", record)
    finish(launcher)
    records = recording.records()
    assert [(hole.stage, hole.lost) for hole in of_kind(records, Hole)] == [("ingress", 2)]
    kept = of_kind(records, Input)
    assert [(each.segment, each.offset, each.gap) for each in kept] == [(1, 0, False), (3, 0, True), (3, 4, False)]


def test_only_the_first_stream_is_recorded_and_nothing_of_another_recording(recording: Recording) -> None:
    launcher = recording.launcher
    launcher.answer = msgspec.structs.replace(launcher.answer, epoch=-1, stream="")
    recording.start()
    launcher.tell("egress", frame(9), recording="another")
    launcher.answer = msgspec.structs.replace(launcher.answer, epoch=2, stream="b")
    launcher.tell("ingress", data(1, 0), epoch=2)
    launcher.tell("egress", frame(1), epoch=2)
    launcher.tell("egress", frame(7), epoch=3)
    finish(launcher, epoch=2)
    records = recording.records()
    assert (records[0].epoch, records[0].stream) == (2, "b")  # type: ignore[union-attr]
    assert [each.pts for each in of_kind(records, Frame)] == [1]


def test_how_decode_was_before_the_first_segment_is_noted_when_it_is_known(recording: Recording) -> None:
    launcher = recording.launcher
    launcher.answer = msgspec.structs.replace(launcher.answer, timelines=[(3, 5, 6), (4, 50, 60)])
    recording.start()
    launcher.tell("ingress", data(4, 0))
    until(lambda: recording.path.stat().st_size > 100)
    asked = launcher.asked
    until(lambda: launcher.asked >= asked + 2)
    finish(launcher)
    assert of_kind(recording.records(), Timeline) == [Timeline(4, 50, 60)]


def test_events_are_kept_without_what_urls_hide(recording: Recording) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(1, 0))
    until(lambda: recording.path.stat().st_size > 100)
    fields: dict[str, str | int | float] = {"url": "http://me:pw@host/x?key=secret", "n": 1}
    launcher.announce(SupervisionEvent(1.0, "error", "decode", "died", fields))
    until(lambda: b"died" in recording.path.read_bytes())
    finish(launcher)
    (event,) = of_kind(recording.records(), Happened)
    assert (event.stage, event.fields) == ("decode", {"url": "http://***@host/x?***", "n": 1})


def test_what_happens_to_other_streams_is_not_in_it(recording: Recording) -> None:
    launcher = recording.launcher
    launcher.answer = msgspec.structs.replace(launcher.answer, stages=["decode.1", "inference"])
    recording.start()
    launcher.tell("ingress", data(1, 0))
    until(lambda: recording.path.stat().st_size > 100)
    for stage, fields in (
        ("decode.2", {}),
        ("launcher", {"stream": "other"}),
        ("decode.1", {}),
        ("launcher", {"stream": "main"}),
        ("launcher", {"reason": "of all"}),
    ):
        launcher.announce(SupervisionEvent(1.0, "info", stage, "happened", fields))
    until(lambda: b"of all" in recording.path.read_bytes())
    finish(launcher)
    happened = of_kind(recording.records(), Happened)
    assert [(each.stage, each.fields.get("stream")) for each in happened] == [
        ("decode.1", None),
        ("launcher", "main"),
        ("launcher", None),
    ]


def test_a_stream_that_was_stopped_ends_its_recording_though_a_stage_never_came_to_its_end(
    recording: Recording,
) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(1, 0))
    launcher.tell("ingress", InputEnd(1))
    until(lambda: recording.path.stat().st_size > 100)
    launcher.announce(SupervisionEvent(1.0, "error", "launcher", "stream_stopped", {"stream": "main"}))
    until(lambda: b"stream_stopped" in recording.path.read_bytes())
    launcher.tell("ingress", data(2, 0))  # It was on its way.
    records = recording.records()
    end = records[-1]
    assert of_kind(records, Input)[1:] == [data(2, 0)]
    assert isinstance(end, End)
    assert (end.reason, end.whole) == (STREAM_OVER, False)


def test_one_that_is_stopped_takes_no_more_input_and_waits_for_what_is_on_its_way(recording: Recording) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(1, 0))
    launcher.tell("egress", frame(1))
    until(lambda: b"delivered" in recording.path.read_bytes())
    recording.stop()
    launcher.tell("egress", frame(2))
    records = recording.records()
    assert (records[-1].reason, records[-1].whole) == (ASKED, False)
    assert [each.pts for each in of_kind(records, Frame)] == [1, 2]
    assert launcher.ended == 1


def test_a_file_that_is_full_ends_a_recording(recording: Recording) -> None:
    recording.limits = {"max_bytes": 5000}
    recording.start()
    for number in range(10):
        recording.launcher.tell("ingress", data(number, 0, 2000, last=True))
    end = recording.records()[-1]
    assert isinstance(end, End)
    assert (end.reason, end.whole) == (FULL, False)


def test_a_full_disk_ends_a_recording_and_the_stages_are_told(recording: Recording) -> None:
    class FullDisk(RecordingWriter):
        def write(self, record: Record) -> None:
            if isinstance(record, Frame):
                raise OSError(28, "No space left on device")
            super().write(record)

    writer = FullDisk(recording.path)
    launcher = recording.launcher
    recorder = StreamRecorder(launcher.control, writer, "r1", 1 << 30)
    launcher.tell("ingress", data(1, 0))
    launcher.tell("egress", frame(1))
    with pytest.raises(OSError, match="No space left"):
        recorder.run(os.eventfd(0), lambda: False)
    writer.close()
    until(lambda: launcher.ended == 1)
    assert of_kind(list(RecordingReader(recording.path)), Input) == [data(1, 0)]


def test_a_launcher_that_has_another_recorder_is_obeyed(recording: Recording) -> None:
    recording.launcher.answer = RecordAnswer(False, "demo is being recorded already")
    writer = RecordingWriter(recording.path)
    recorder = StreamRecorder(recording.launcher.control, writer, "r1", 1 << 30)
    with pytest.raises(RecorderRefused, match="demo is being recorded already"):
        recorder.run(os.eventfd(0), lambda: False)
    writer.close()


def test_a_pipeline_that_is_gone_leaves_what_was_recorded(recording: Recording) -> None:
    launcher = recording.launcher
    recording.start()
    launcher.tell("ingress", data(1, 0))
    until(lambda: recording.path.stat().st_size > 100)
    launcher.answer = RecordAnswer(False, "another one records now")
    records = recording.records()
    assert (records[-1].reason, len(of_kind(records, Input))) == (PIPELINE_GONE, 1)


def test_a_recorder_in_the_place_of_one_that_died_goes_on_with_the_next_segment(recording: Recording) -> None:
    first = RecordingWriter(recording.path)
    first.write(data(1, 0))
    first.close()
    recording.start(goes_on=True)
    launcher = recording.launcher
    for record in (data(2, 4, last=True), data(3, 0)):
        launcher.tell("ingress", record)
    finish(launcher)
    kept = of_kind(recording.records(), Input)
    assert [(each.segment, each.gap) for each in kept] == [(1, False), (3, True)]

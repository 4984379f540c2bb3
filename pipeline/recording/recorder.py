"""Writes a recording: takes in what the stages tell, and what the launcher announces, until the stream is over.

It is fed by ingress and not by the channel that the source writes, since it is what ingress handed to decode, where one
segment ended and which were missing, that a replay has to repeat; a second subscriber would see other gaps, at other
times, and cost the server as much again. Ingress and the others only put a copy into a queue that never makes a live
stream wait; this process, which handles no frame, has the disk to wait for.
"""

import contextlib
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable

import msgspec
import zmq

from pipeline import __version__
from pipeline.api.redact import redacted
from pipeline.control import ControlLine, EventStream, LauncherSilent
from pipeline.messages import RecordAnswer, RecordRequest, SupervisionEvent, Tapped
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
    RecordingWriter,
    Timeline,
)

RENEW_SECONDS = 0.5
"""Well within RECORD_LEASE_SECONDS, and often enough to see how decode's timeline was before the first segment."""

TAIL_SECONDS = 1.0
"""How long the frames of the last input are waited for when a recording is stopped while its stream goes on."""

QUEUED_RECORDS = 4096
VERSIONS_OF = ("av", "numpy", "torch", "msgspec")

ASKED, FULL, TIME_IS_UP = "it was stopped", "it is as long as max_bytes allows", "its seconds are over"
STREAM_OVER, PIPELINE_GONE = "the stream is over", "the pipeline is gone"


class RecorderRefused(Exception):
    """The launcher does not let this recorder record. The text is one line for the user."""


def new_recording() -> str:
    """An id."""
    return uuid.uuid4().hex


class StreamRecorder:
    """One recording of one stream."""

    def __init__(
        self,
        control: str,
        writer: RecordingWriter,
        recording: str,
        max_bytes: float,
        seconds: float | None = None,
        stream: str = "",
    ) -> None:
        """`control` is the launcher's socket. `stream` is the name of the one that is meant; empty: the only one that
        runs, or the next."""
        self.frames = self.segments = 0
        self.reason = ""
        """Why it is over."""
        self.media_seconds = 0.0
        """How long it took to record it."""
        self._control = control
        self._writer = writer
        self._recording = recording
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._stream = stream
        self._decoder: msgspec.msgpack.Decoder[Tapped] = msgspec.msgpack.Decoder(Tapped)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._answer: RecordAnswer | None = None
        self._renewed = 0.0
        self._epoch: int | None = None  # once it has begun
        self._began = 0.0
        self._position = (-1, 0)  # the segment and the byte that come next
        self._in_hole = not writer.is_new  # bytes are missing: what comes before the next segment is useless
        self._first_segment: int | None = None
        self._timeline_noted = False
        self._numbers: dict[str, int] = {}
        self._early: deque[Tapped] = deque(maxlen=QUEUED_RECORDS)  # what came of pictures before it has begun
        self._input_over = self._output_over = False
        self._closing_at: float | None = None
        self._closing_for = ""

    @property
    def has_begun(self) -> bool:
        """Whether there is something in the recording."""
        return self._epoch is not None

    def run(self, wake_fd: int, stopped: Callable[[], bool]) -> None:
        """Until the stream is over, a limit is reached, or `stopped`. That is asked when `wake_fd` is readable, and
        sees to it that it is not any more.

        Raises RecorderRefused, LauncherSilent when nobody answers at the start, and OSError when the disk is full.
        """
        with ControlLine(self._control) as launcher, EventStream(self._control) as events:
            try:
                self._renew(launcher, None)
                assert self._answer is not None
                queue = self._listen(self._answer.endpoint)
                poller = zmq.Poller()
                poller.register(queue, zmq.POLLIN)
                poller.register(events.socket, zmq.POLLIN)
                poller.register(wake_fd, zmq.POLLIN)
                while not self.reason:
                    ready = dict(poller.poll(int(1000 * RENEW_SECONDS / 2)))
                    self._take_all(queue, launcher)
                    self._write_events(events)
                    self._look_for_the_end(wake_fd in ready and stopped())
                    self._keep_lease(launcher)
                self._finish(queue, launcher)
            except OSError:
                with contextlib.suppress(LauncherSilent):
                    launcher.end_recording(self._recording)
                raise
            finally:
                self._context.destroy(linger=0)

    def _listen(self, endpoint: str) -> "zmq.Socket[bytes]":
        queue = self._context.socket(zmq.PULL)
        queue.set(zmq.RCVHWM, QUEUED_RECORDS)
        queue.set(zmq.LINGER, 0)
        queue.bind(endpoint)
        return queue

    def _renew(self, launcher: ControlLine, epoch: int | None) -> None:
        answer = launcher.record(RecordRequest(self._recording, self._stream, epoch))
        if not answer.ok:
            raise RecorderRefused(answer.text)
        if self._answer is None or answer.epoch is not None:  # Else there is none yet, or it is over.
            self._answer = answer
        self._renewed = time.monotonic()
        for segment, offset, last in answer.timelines:
            if segment == self._first_segment and not self._timeline_noted:
                self._timeline_noted = True
                if offset or last is not None:
                    self._writer.write(Timeline(segment, offset, last))

    def _keep_lease(self, launcher: ControlLine) -> None:
        if self.reason or time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        try:
            self._renew(launcher, self._epoch)
        except (LauncherSilent, RecorderRefused):
            self.reason = PIPELINE_GONE

    # What comes.

    def _take_all(self, queue: "zmq.Socket[bytes]", launcher: ControlLine) -> None:
        for _ in range(QUEUED_RECORDS):  # So that the lease is kept whatever comes.
            try:
                tapped = self._decoder.decode(queue.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if tapped.recording != self._recording:
                continue
            self._count(tapped)
            if self._is_ours(tapped, launcher):
                self._take(tapped.record)
            elif self._epoch is None and not isinstance(tapped.record, Input):
                self._early.append(tapped)

    def _is_ours(self, tapped: Tapped, launcher: ControlLine) -> bool:
        """The first stream of which a segment comes from its start is the one that is recorded, where several could
        be."""
        could_begin = self._epoch is None and not self.reason
        if could_begin and isinstance(tapped.record, Input) and not tapped.record.offset:
            self._begin(tapped.epoch, tapped.record.at_ns, launcher)
        return tapped.epoch == self._epoch

    def _begin(self, epoch: int, at_ns: int, launcher: ControlLine) -> None:
        """With what arrived at `at_ns`. Each stage has a queue of its own, and what came of that may be here first."""
        try:
            self._renew(launcher, epoch)  # The stages of others need not tell any more.
        except (LauncherSilent, RecorderRefused):
            self.reason = PIPELINE_GONE
            return
        answer = self._answer
        assert answer is not None
        if answer.epoch != epoch:
            self.reason = STREAM_OVER
            return
        self._epoch, self._began = epoch, time.monotonic()
        self._write(
            Header(
                answer.pipeline,
                answer.stream,
                epoch,
                time.time(),
                time.monotonic_ns(),
                versions(),
                answer.topology,
            )
        )
        for tapped in self._early:
            if tapped.epoch == epoch and tapped.record.at_ns >= at_ns:
                self._take(tapped.record)
        self._early.clear()

    def _count(self, tapped: Tapped) -> None:
        """A number that was left out is a record that was lost; a process that starts begins with 0."""
        expected = self._numbers.get(tapped.stage, 0)
        if tapped.number > expected and tapped.epoch == self._epoch:
            self._write(Hole(tapped.stage, tapped.number - expected, time.monotonic_ns()))
            self._in_hole = self._in_hole or isinstance(tapped.record, Input)
        self._numbers[tapped.stage] = tapped.number + 1

    def _take(self, record: Input | InputEnd | Frame | Change | OutputEnd) -> None:
        match record:
            case Input():
                self._take_input(record)
                return
            case InputEnd():
                self._input_over = True
            case OutputEnd():
                self._output_over = True
            case Frame():
                self.frames += 1
        self._write(record)

    def _take_input(self, record: Input) -> None:
        """Once each, though an ingress that was started again reads its segment from the start."""
        segment, offset = self._position
        end = record.offset + len(record.data)
        if record.segment < segment or (self._closing_at is not None and self._closing_for is not STREAM_OVER):
            return
        if record.segment == segment and record.offset < offset:
            if end < offset or (end == offset and not record.last):
                return
            data = record.data[offset - record.offset :]
            record = msgspec.structs.replace(record, offset=offset, data=data)
        elif record.segment == segment and record.offset > offset:
            self._in_hole = True
        if self._in_hole:
            if record.offset:
                return
            self._in_hole = False
            record = msgspec.structs.replace(record, gap=True)
        if self._first_segment is None:
            self._first_segment = record.segment
        self._position = (record.segment + 1, 0) if record.last else (record.segment, end)
        self.segments += record.last
        self._write(record)

    def _write_events(self, events: EventStream) -> None:
        while (event := events.next(0)) is not None:
            if (self._epoch is not None or not self._writer.is_new) and self._has_to_do_with(event):
                self._write(_happened(event))
                if event.name == "stream_stopped" and self._closing_at is None:
                    self._close_soon(STREAM_OVER)  # One of its stages may be gone, and never say so.

    def _has_to_do_with(self, event: SupervisionEvent) -> bool:
        """Not so if it is of another stream alone."""
        answer = self._answer
        assert answer is not None
        of_stage = event.stage in ("launcher", *answer.stages) or not answer.stages
        return of_stage and event.fields.get("stream", answer.stream) in ("", answer.stream)

    def _write(self, record: Record) -> None:
        self._writer.write(record)

    # Its end.

    def _look_for_the_end(self, stopped: bool) -> None:
        if self._output_over and self._input_over:
            self.reason = STREAM_OVER
        elif self._closing_at is not None:
            self.reason = self._closing_for if time.monotonic() >= self._closing_at else ""
        elif stopped:
            self._close_soon(ASKED)
        elif self._writer.size >= self._max_bytes:
            self._close_soon(FULL)
        elif self._seconds and self._epoch is not None and time.monotonic() - self._began >= self._seconds:
            self._close_soon(TIME_IS_UP)

    def _close_soon(self, reason: str) -> None:
        """No more input; its last frames are still on their way."""
        self._closing_for = reason
        self._closing_at = time.monotonic() + (TAIL_SECONDS if self._epoch is not None else 0)

    def _finish(self, queue: "zmq.Socket[bytes]", launcher: ControlLine) -> None:
        self._take_all(queue, launcher)
        self.media_seconds = time.monotonic() - self._began if self._epoch is not None else 0.0
        if self._epoch is not None:
            self._write(End(self.reason, self._input_over and self._output_over, time.monotonic_ns()))
        if self.reason is not PIPELINE_GONE:
            with contextlib.suppress(LauncherSilent):  # It may be at its end as well.
                launcher.end_recording(self._recording)


def versions() -> dict[str, str]:
    """Of this program, of what it computes with, and of Python."""
    from importlib import metadata  # The launcher imports this module, and seldom calls it.

    found = {"livepipe": __version__, "python": platform.python_version()}
    for package in VERSIONS_OF:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _happened(event: SupervisionEvent) -> Happened:
    fields = {key: redacted(value) if isinstance(value, str) else value for key, value in event.fields.items()}
    return Happened(event.time, event.level, event.stage, event.name, fields)

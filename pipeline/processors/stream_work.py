"""One stream's part of inference: its links, and its frames' and its sound's way from where the stream begins until all
of it was handed on; then the next one's on the same lane."""

from collections.abc import Callable, Sequence
from typing import Literal

from pipeline.audio_link import AudioWriter
from pipeline.boot import LinkBoot
from pipeline.link import LinkWriter, open_reader
from pipeline.memory.slot_table import Slot
from pipeline.memory.stage_stats import Word
from pipeline.processors.frame_tensors import FrameTensors
from pipeline.processors.frame_work import FrameWork, Loaded
from pipeline.processors.guard import Streak
from pipeline.processors.param_sets import ParamSets
from pipeline.processors.protocol import Answer, Listener, Processor, StreamAware
from pipeline.processors.sound_work import SoundWork
from pipeline.processors.under_way import UnderWay
from pipeline.recording.param_tape import ParamTape
from pipeline.topology_sections import Processor as ProcessorSpec
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane

OpenFrames = Callable[[LinkBoot, Sequence[Slot], int], FrameTensors]
"""Gives a link's slots as tensors, of which so many pictures are good at a time."""


class StreamWork:
    def __init__(
        self,
        worker: Worker,
        lane: WorkerLane,
        spec: ProcessorSpec,
        processor: Processor,
        params: ParamSets,
        streak: Streak,
        under_way: UnderWay,
        open_frames: OpenFrames,
    ) -> None:
        """Raises RecordingError."""
        boot = lane.boot
        self.lane = lane
        self.reader = open_reader(boot.input, owner=worker.boot.incarnation, tracer=worker.tracer)
        self.writer = LinkWriter(boot.output, owner=worker.boot.incarnation)
        self.tape = ParamTape(worker, lane, params)
        """What is changed for the lane's stream, and was when it was recorded."""
        self.runs = False
        """Whether there is a stream, or something of it left."""
        self._worker = worker
        self._processor = processor
        self._params = params
        self._side = AudioWriter(boot.audio_endpoint, worker.zmq)
        tensors = (
            open_frames(boot.input, self.reader.table.slots, spec.in_flight),
            open_frames(boot.output, self.writer.table.slots, 1),
        )
        self._frames = FrameWork(
            worker, lane, spec, processor, (self.reader, self.writer), tensors, self._write_text, streak, under_way
        )
        self._sound = self._open_sound(spec.on_error == "pass_through") if boot.samples_endpoint is not None else None

    @property
    def weight(self) -> float:
        """Of the process's time."""
        return self.lane.weight

    @property
    def has_room(self) -> bool:
        """Whether a frame can be begun and handed on without waiting for egress, or for another frame."""
        needed = self._frames.under_way + self._frames.most_pictures
        return not self._frames.is_full and self.writer.free_slots >= min(needed, self.writer.boot.slots)

    @property
    def is_over(self) -> bool:
        """Whether decode has ended, and every frame was taken."""
        return self.reader.drained

    @property
    def is_settled(self) -> bool:
        """Whether every frame that was taken was handed on. A process of one stream waits for them in `finish`."""
        return len(self._worker.lanes) == 1 or not self._frames.under_way

    @property
    def last_pts(self) -> int | None:
        """Of the frame that was settled last."""
        return self._frames.last_pts

    def begin(self) -> None:
        self.runs = True
        self._side.wake(self.lane.epoch)
        if self._sound is not None:
            self._sound.begin(self.lane.epoch)
        self._params.begin(self.lane)
        if not self.is_paused:
            self._params.use(self.lane)
            self._params.tell()
        self.tape.begin_stream()
        self._tell_processor("begin_stream")

    def serve(self, slot: Slot) -> None:
        """See to the stream's next frame. Raises ProcessorGivenUp, and WorkerAbandoned."""
        if self.tape.are_due(slot.pts):
            self._frames.settle_all()
            self.tape.change_as_recorded(slot.pts, self._frames.last_pts)
        if not self.is_paused:
            self._params.use(self.lane)
        self._frames.serve(slot)
        self._settle()

    @property
    def is_paused(self) -> bool:
        """Whether the processor is to be left alone."""
        return self.lane.pause is not None

    def load(self, slot: Slot) -> Loaded:
        """See FrameWork.load."""
        return self._frames.load(slot)

    def accept(self, loaded: Loaded, answer: Answer) -> None:
        """See FrameWork.accept."""
        self._frames.accept(loaded, answer)

    def process(self, loaded: Loaded) -> None:
        """See FrameWork.process."""
        self._frames.process(loaded)

    def see_to_the_rest(self) -> None:
        """Hear what has come, and hand on what has ended."""
        self._hear()
        self._settle()

    def settle_all(self) -> None:
        """Wait for what is under way, and hand it on."""
        self._frames.settle_all()

    def finish(self) -> None:
        """Hand on what is left, and say that it was all. The links are left alone from then on."""
        self._frames.settle_all()
        if self._sound is not None:
            self._sound.finish()
        self._tell_processor("end_stream")
        self._side.end("text")
        self._side.rest()
        self.writer.end()
        self.runs = False

    def close(self) -> None:
        if self._sound is not None:
            self._sound.close()
        self._side.close()
        self.reader.close()
        self.writer.close()

    def _settle(self) -> None:
        """Where there are other streams nothing is waited for."""
        if len(self._worker.lanes) == 1:
            self._frames.settle_ended()
        else:
            self._frames.settle_done()

    def _tell_processor(self, what: Literal["begin_stream", "end_stream"]) -> None:
        """One that wants to know. Before the first stream on request there is nothing to tell."""
        if not isinstance(self._processor, StreamAware) or self.lane.epoch < 0:
            return
        try:
            getattr(self._processor, what)()
        except Exception as error:  # noqa: BLE001 - the user's own code; frames decide whether it works
            self._worker.error("stream_hook_failed", hook=what, problem=f"{type(error).__name__}: {error}")

    def _hear(self) -> None:
        stats = self._worker.stats
        if self._sound is None or not self._sound.waits:
            return
        if "egress" in self._worker.restarted_peers() and not self._worker.boot.live:
            self._side.repeat_recent()
        stats.busy()
        self._sound.serve()
        stats.idle()
        stats.total(Word.AUDIO_DROPPED, self._sound.dropped + self._side.dropped)

    def _write_text(self, pts: int, text: str, **of: int) -> None:
        stream = {"stream": self.lane.stream} if self._worker.boot.on_request else {}
        self._worker.info("text", **stream, **of, pts=pts, text=text)
        self._side.write_text(pts, text)

    def _open_sound(self, passes_through: bool) -> SoundWork:
        lane, worker = self.lane, self._worker
        assert lane.boot.samples_endpoint is not None
        assert isinstance(self._processor, Listener)
        return SoundWork(
            lane.boot.samples_endpoint,
            worker.zmq,
            self._side,
            self._processor,
            self._write_text,
            worker.error,
            worker.wake,
            lambda: lane.pause is not None,
            passes_through=passes_through,
        )

"""The frames' way through inference: a slot's picture to the processor, what it makes of it to the link behind.

Each frame is counted exactly once, whatever becomes of it: handed on, replaced by something that stands in for it, or
withheld. Frames leave in the order in which they came, however many are under way.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import torch

from pipeline.boot import Pause
from pipeline.link import BlockReader, LatestReader, LinkWriter
from pipeline.media.access_unit import CLOCK_HZ
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.memory.stage_stats import Span, Word
from pipeline.processors.frame_tensors import FrameTensors
from pipeline.processors.guard import Guard, Streak
from pipeline.processors.protocol import Answer, Concurrent, FrameIdentity, Processor, Result
from pipeline.processors.under_way import UnderWay
from pipeline.topology_sections import Processor as ProcessorSpec
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane

MAX_INTERVAL = CLOCK_HZ // 2
"""A longer time between two frames, in 1/90000 s, is a gap, which nothing can be shown in."""

WriteText = Callable[..., None]
"""Takes the time, in 1/90000 s, a line of text, and which frame it is of, as `seq`."""


class Loaded(NamedTuple):
    """A frame, and its picture on the device."""

    slot: Slot
    image: torch.Tensor
    identity: FrameIdentity


class _UnderWay(NamedTuple):
    slot: Slot
    image: torch.Tensor
    identity: FrameIdentity
    begun: Future[Answer]


class FrameWork:
    def __init__(
        self,
        worker: Worker,
        lane: WorkerLane,
        spec: ProcessorSpec,
        processor: Processor,
        ends: tuple[BlockReader | LatestReader, LinkWriter],
        tensors: tuple[FrameTensors, FrameTensors],
        write_text: WriteText,
        streak: Streak,
        under_way: UnderWay,
    ) -> None:
        """`ends` are those of the links before and behind, `tensors` their slots; of the first as many pictures must be
        good at a time as frames may be in flight."""
        self._worker = worker
        self._lane = lane
        self._stats = worker.stats
        self._tracer = worker.tracer
        self._processor = processor
        self._passes_through = spec.on_error == "pass_through"
        self._in_flight = spec.in_flight
        self._reader, self._writer = ends
        self._incoming, self._outgoing = tensors
        self._write_text = write_text
        self._guard = Guard(processor, self._outgoing.check, self._report, spec.give_up_after, streak)
        self.most_pictures = 1
        """That one frame has become so far."""
        self._under_way: deque[_UnderWay] = deque()
        self._all_under_way = under_way
        self.last_pts: int | None = None
        """Of the frame that was settled last."""

    @property
    def under_way(self) -> int:
        """Frames that were begun."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether no frame can be begun before one has ended."""
        return len(self._under_way) >= self._in_flight

    def serve(self, slot: Slot) -> None:
        """Process the frame, or begin to. Raises ProcessorGivenUp, and WorkerAbandoned."""
        self._stats.add(Word.UNITS_IN)
        if (pause := self._lane.pause) is not None:
            self._pass_by(slot, pause)
            return
        loaded = self._load(slot)
        if self._in_flight == 1:
            self.process(loaded)
            return
        image, identity = loaded.image, loaded.identity
        assert isinstance(self._processor, Concurrent)
        begun = self._processor.begin(image, identity)
        begun.add_done_callback(lambda _: self._worker.wake())
        self._under_way.append(_UnderWay(slot, image, identity, begun))
        self._all_under_way.add(begun)
        self._stats.idle()

    def load(self, slot: Slot) -> Loaded:
        """Begin on a frame that is to be processed with others; `accept` or `process` ends it."""
        self._stats.add(Word.UNITS_IN)
        return self._load(slot)

    def accept(self, loaded: Loaded, answer: Answer) -> None:
        """Hand on what the processor made of a frame. Raises ProcessorGivenUp, and WorkerAbandoned."""
        self._settle(*loaded, self._guard.accept(answer, loaded.identity))

    def process(self, loaded: Loaded) -> None:
        """Process a frame alone. Raises ProcessorGivenUp, and WorkerAbandoned."""
        self._stats.busy()
        self._settle(*loaded, self._guard.process(loaded.image, loaded.identity))

    def _load(self, slot: Slot) -> Loaded:
        self._stats.busy()
        return Loaded(slot, self._incoming.load(slot), FrameIdentity(self._lane.stream, slot.epoch, slot.seq, slot.pts))

    def settle_ended(self) -> None:
        """Hand on what has ended; wait for the first if no more can be begun."""
        while self._under_way and (self.is_full or self._under_way[0].begun.done()):
            self._settle_first()

    def settle_done(self) -> None:
        """Hand on what has ended, without waiting."""
        while self._under_way and self._under_way[0].begun.done():
            self._settle_first()

    def settle_all(self) -> None:
        """Wait for everything that is under way, and hand it on."""
        while self._under_way:
            self._settle_first()

    def _settle_first(self) -> None:
        slot, image, identity, begun = self._under_way.popleft()
        self._stats.busy()  # So that one that hangs is noticed.
        self._settle(slot, image, identity, self._guard.settle(begun, identity))

    def _settle(self, slot: Slot, image: torch.Tensor, identity: FrameIdentity, result: Result | None) -> None:
        self._stats.idle()
        if result is None:
            # The processor may have written into the picture.
            image = self._incoming.reload(slot, image) if self._passes_through else None
            self._stand_in(slot, image, Outcome.PROCESSOR_ERROR)
        else:
            for text in result.texts:
                self._write_text(identity.pts, text, seq=identity.seq)
            if result.image is None:
                self._tracer.end(slot, Outcome.WITHHELD)
                self._reader.release(slot, Outcome.WITHHELD)
            else:
                self._hand_on(slot, result.image, result.before)
                self._stats.record(Span.STAGE, time.monotonic_ns() - slot.ready_ns)
        self.last_pts = identity.pts

    def _pass_by(self, slot: Slot, pause: Pause) -> None:
        """The processor is left alone; its sense of time too: nothing is shown between this frame and the next."""
        self.settle_all()
        self._stand_in(slot, self._incoming.load(slot) if pause.show == "input" else None, Outcome.PAUSED)
        self.last_pts = None

    def _stand_in(self, slot: Slot, image: torch.Tensor | None, verdict: Outcome) -> None:
        """The frame was not processed: what viewers see in its place, this picture or else the one before, is counted
        as that, and not as delivered."""
        if image is not None:
            target = self._acquire(slot, slot.pts, image.shape[2], image.shape[1], verdict)
            self._store(image, target)
        else:
            target = self._acquire(slot, slot.pts, 0, 0, verdict)
        self._publish(slot, target)

    def _hand_on(self, slot: Slot, image: torch.Tensor, before: tuple[torch.Tensor, ...]) -> None:
        times = self._times(slot.pts, len(before))
        self.most_pictures = max(self.most_pictures, 1 + len(before))
        for part, pts in enumerate(times):
            added = before[part]
            target = self._acquire(slot, pts, added.shape[2], added.shape[1], Outcome.ADDED, part)
            self._store(added, target)
            self._writer.publish(target)
        target = self._acquire(slot, slot.pts, image.shape[2], image.shape[1], Outcome.DELIVERED, len(times))
        self._store(image, target)
        self._publish(slot, target)

    def _store(self, image: torch.Tensor, target: Slot) -> None:
        """Work too, and most of it where the device computes on while the processor has answered: this waits for it."""
        self._stats.busy()
        self._outgoing.store(image, target)
        self._stats.idle()

    def _times(self, pts: int, count: int) -> list[int]:
        """When so many added pictures are shown: evenly between the frame before and this one; none if there is nothing
        to be between."""
        since = pts - self.last_pts if self.last_pts is not None else 0
        if not 0 < since <= MAX_INTERVAL:
            return []
        return [pts - since + since * (part + 1) // (count + 1) for part in range(count)]

    def _publish(self, slot: Slot, target: Slot) -> None:
        self._writer.publish(target)
        self._stats.out()
        self._reader.release(slot, Outcome.DELIVERED)

    def _report(self, name: str, **fields: str | int | float) -> None:
        """Of which stream it is, where there are several: nobody is told of another's."""
        of = {"stream": self._lane.stream} if self._worker.boot.on_request else {}
        self._worker.error(name, **of, **fields)

    def _acquire(self, slot: Slot, pts: int, width: int, height: int, verdict: Outcome, part: int = 0) -> Slot:
        """A slot for the result. With none free this waits for egress: what was processed is not thrown away."""
        while True:
            target = self._writer.acquire(
                seq=slot.seq,
                pts=pts,
                epoch=slot.epoch,
                arrived_ns=slot.arrived_ns,
                width=width,
                height=height,
                verdict=verdict,
                part=part,
            )
            if target is not None:
                if verdict is not Outcome.ADDED:
                    self._tracer.pass_on(slot, self._writer.table, target)
                return target
            self._worker.check_abandoned()

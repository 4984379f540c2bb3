"""Passthrough: hands frames on as they are, or with a notice over them, while inference is away; and the sound.

It stands in under the name of the inference stage, waits for its turn, and is ended when that is over. It needs no
model and no torch, so it is always there.
"""

import time
from collections.abc import Callable

import numpy as np

from pipeline.audio_link import AudioListener, AudioWriter
from pipeline.link import LinkWriter, open_reader
from pipeline.media.notice import Notice
from pipeline.memory.slot_pixels import Pixels, open_source, open_target
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.memory.stage_stats import Span, Word
from pipeline.rounds import serve_streams
from pipeline.topology import AnyStage, Inference
from pipeline.worker import Worker, run
from pipeline.worker_lane import WorkerLane


class Passing:
    """One stream's frames and sound, handed on as they are. See `rounds.Work`."""

    def __init__(self, worker: Worker, lane: WorkerLane) -> None:
        boot = lane.boot
        self.lane = lane
        self.runs = False
        self.weight = 1.0
        self.reader = open_reader(boot.input, owner=worker.boot.incarnation, tracer=worker.tracer)
        self.writer = LinkWriter(boot.output, owner=worker.boot.incarnation)
        self._worker = worker
        self._source = open_source(boot.input, self.reader.table)
        self._target = open_target(boot.output, self.writer.table)
        self._show = _show(worker.boot.spec)
        self._sound = PassingSound(worker, lane) if boot.samples_endpoint is not None else None

    @property
    def has_room(self) -> bool:
        return self.writer.free_slots > 0

    @property
    def is_over(self) -> bool:
        return self.reader.drained

    @property
    def is_settled(self) -> bool:
        return True

    def begin(self) -> None:
        self.runs = True
        if self._sound is not None:
            self._sound.begin(self.lane.epoch)

    def serve(self, slot: Slot) -> None:
        worker, stats = self._worker, self._worker.stats
        stats.add(Word.UNITS_IN)
        while (
            target := self.writer.acquire(
                seq=slot.seq,
                pts=slot.pts,
                epoch=slot.epoch,
                arrived_ns=slot.arrived_ns,
                width=slot.width,
                height=slot.height,
            )
        ) is None:
            worker.check_abandoned()
        worker.tracer.pass_on(slot, self.writer.table, target)
        stats.busy()
        self._show(self._source.picture(slot), self._target.array(target))
        self._target.complete(target)
        stats.idle()
        self.writer.publish(target)
        stats.record(Span.STAGE, time.monotonic_ns() - slot.ready_ns)
        stats.out()
        self.reader.release(slot, Outcome.DELIVERED)

    def see_to_the_rest(self) -> None:
        """The sound has a thread of its own."""

    def finish(self) -> None:
        self.writer.end()
        self.runs = False

    def close(self) -> None:
        if self._sound is not None:
            self._sound.close()


class PassingSound:
    """The sound, where it goes through inference: from decode to egress as it comes."""

    def __init__(self, worker: Worker, lane: WorkerLane) -> None:
        assert lane.boot.samples_endpoint is not None
        self._writer = AudioWriter(lane.boot.audio_endpoint, worker.zmq, epoch=lane.epoch)
        self._listener = AudioListener(lane.boot.samples_endpoint, worker.zmq, self._writer.forward)

    def begin(self, epoch: int) -> None:
        """A stream of this number begins."""
        self._writer.wake(epoch)
        self._listener.forget_before(epoch)

    def close(self) -> None:
        self._listener.close()


def _show(spec: AnyStage | None) -> Callable[[Pixels, Pixels], None]:
    """What becomes of a picture on its way."""
    if isinstance(spec, Inference) and spec.while_away == "notice":
        return Notice(spec.notice).draw
    return lambda picture, target: np.copyto(target, picture)


def main(worker: Worker) -> None:
    worker.ready("hands frames on as they are, while inference is away")
    worker.wait_for_turn()
    works = [Passing(worker, lane) for lane in worker.lanes]
    serve_streams(worker, works, lambda: None)
    for work in works:
        work.close()


if __name__ == "__main__":
    run(main)

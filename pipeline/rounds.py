"""The loop of a process that serves streams, each on its lane: a stream begins when the launcher says so, its frames
are served when it is their turn, and it is finished when decode has ended. It is inference's, and its stand-in's."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pipeline.memory.slot_table import Slot
from pipeline.topology_sections import Batch
from pipeline.turns import Served, Turns
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane


class Work(Served, Protocol):
    """One stream's part of the process."""

    lane: WorkerLane
    runs: bool
    """Whether there is a stream, or something of it left."""

    @property
    def is_over(self) -> bool:
        """Whether decode has ended, and every frame was taken."""

    @property
    def is_settled(self) -> bool:
        """Whether every frame that was taken was handed on."""

    def begin(self) -> None: ...

    def serve(self, slot: Slot) -> None: ...

    def see_to_the_rest(self) -> None:
        """Everything but the next frame."""

    def finish(self) -> None:
        """Hand on what is left, and say that it was all. The links are left alone from then on."""


AnyWork = TypeVar("AnyWork", bound=Work)


Together = Callable[[Sequence[tuple[AnyWork, Slot]]], None]
"""Serves one frame each of several streams."""


def serve_streams(
    worker: Worker,
    works: Sequence[AnyWork],
    update: Callable[[], None],
    together: Together[AnyWork] | None = None,
    batch: Batch | None = None,
) -> None:
    """Until every stream was handed on, and no other comes. `update` sees to what the launcher wants changed, between
    two frames. With `batch`, frames of several streams are served `together`."""
    turns: Turns[AnyWork] = Turns(worker.wake_fd, worker.clear_wake, alone=len(works) == 1)

    def begin(work: AnyWork) -> None:
        work.begin()
        turns.join(work)

    def go_on(work: AnyWork) -> None:
        if work.runs:
            work.see_to_the_rest()
            if work.is_over:
                turns.leave(work)
                if work.is_settled:  # Else the process is woken when it is: meanwhile there are others.
                    work.finish()
                    worker.handed_on(work.lane)
        if not work.runs and work.lane.take_up():
            begin(work)

    for work in works:
        begin(work)
    while True:
        update()
        for work in works:
            go_on(work)
        if not any(work.runs for work in works) and (worker.draining or not worker.boot.on_request):
            return
        if (found := turns.take()) is not None:
            update()
            if batch is not None and together is not None and len(works) > 1:
                together([found, *turns.take_more(batch.max - 1, batch.wait_ms / 1000)])
            else:
                work, slot = found
                work.serve(slot)

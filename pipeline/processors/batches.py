"""Frames of several streams through the processor at a time: those that fit together as one tensor, others alone."""

from collections.abc import Sequence

import torch

from pipeline.memory.slot_table import Slot
from pipeline.processors.frame_work import Loaded
from pipeline.processors.param_sets import ParamSets
from pipeline.processors.protocol import Batching
from pipeline.processors.stream_work import StreamWork
from pipeline.worker import Worker

Turn = tuple[StreamWork, Slot]


class Batches:
    def __init__(self, worker: Worker, processor: Batching, params: ParamSets) -> None:
        self._worker = worker
        self._processor = processor
        self._params = params
        self._reported = False

    def serve(self, turns: Sequence[Turn]) -> None:
        """One frame each of different streams. Raises ProcessorGivenUp, and WorkerAbandoned."""
        left = list(turns)
        while left:
            together = [turn for turn in left if self._fit(left[0], turn)]
            left = [turn for turn in left if turn not in together]
            if len(together) == 1:
                work, slot = together[0]
                work.serve(slot)
            else:
                self._serve_together(together)

    def _fit(self, first: Turn, other: Turn) -> bool:
        """Whether the processor can take both at a time."""
        (work, slot), (other_work, other_slot) = first, other
        if work is other_work:
            return True
        return (
            not (work.is_paused or other_work.is_paused)
            and (slot.width, slot.height) == (other_slot.width, other_slot.height)
            and self._params.of(work.lane) == self._params.of(other_work.lane)
        )

    def _serve_together(self, turns: Sequence[Turn]) -> None:
        self._params.use(turns[0][0].lane)
        frames = [(work, work.load(slot)) for work, slot in turns]
        try:
            images = torch.cat([loaded.image for _, loaded in frames])
            answers = self._processor.process_together(images, [loaded.identity for _, loaded in frames])
        except Exception as error:  # noqa: BLE001 - the user's own code; which frame it was, each alone will tell
            self._report(error, frames)
            for work, loaded in frames:
                work.process(loaded)
            return
        for (work, loaded), answer in zip(frames, answers, strict=True):
            work.accept(loaded, answer)

    def _report(self, error: Exception, frames: Sequence[tuple[StreamWork, Loaded]]) -> None:
        """Once: a processor that cannot take several is none the worse for it."""
        if not self._reported:
            self._reported = True
            self._worker.warning("batch_failed", frames=len(frames), problem=f"{type(error).__name__}: {error}")

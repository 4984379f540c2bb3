"""Frames of several streams through the processor at a time: those that fit together as one tensor, others alone."""

from collections.abc import Sequence

import torch

from pipeline.memory.slot_table import Slot
from pipeline.processors.frame_work import Loaded
from pipeline.processors.param_sets import ParamSets
from pipeline.processors.protocol import Batching
from pipeline.processors.stream_work import StreamWork
from pipeline.worker import Worker

GIVE_UP_AFTER = 10
"""Batches that failed in a row."""

Turn = tuple[StreamWork, Slot]


class Batches:
    def __init__(self, worker: Worker, processor: Batching, params: ParamSets) -> None:
        self._worker = worker
        self._processor = processor
        self._params = params
        self._failures = 0

    def serve(self, turns: Sequence[Turn]) -> None:
        """One frame each of different streams. Raises ProcessorGivenUp, and WorkerAbandoned."""
        left = list(turns)
        while left:
            if self._failures >= GIVE_UP_AFTER:
                work, slot = left.pop(0)
                work.serve(slot)
                continue
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
            and not (slot.attempts or other_slot.attempts)  # What a process died on is served alone, and last.
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
            self._failed(error, frames)
            for work, loaded in frames:
                work.process(loaded)
            return
        self._failures = 0
        for (work, loaded), answer in zip(frames, answers, strict=True):
            work.accept(loaded, answer)

    def _failed(self, error: Exception, frames: Sequence[tuple[StreamWork, Loaded]]) -> None:
        """Told with the first and with the last: a processor that cannot take several is not asked for ever."""
        self._failures += 1
        if self._failures in (1, GIVE_UP_AFTER):
            self._worker.warning(
                "batch_failed",
                frames=len(frames),
                problem=f"{type(error).__name__}: {error}",
                given_up=self._failures == GIVE_UP_AFTER,
            )

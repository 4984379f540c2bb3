"""Runs a processor so that whatever it raises costs one frame, is reported, and never passes in silence."""

import time
from collections.abc import Callable
from concurrent.futures import Future

import torch

from pipeline.memory.slot_table import MAX_PARTS
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import Answer, FrameIdentity, Processor, Result

REPORT_SECONDS = 1.0
"""A processor that fails on every frame is reported once in this time, with the count."""

Report = Callable[..., None]
"""Takes the name of an event and its fields."""


class ProcessorGivenUp(Exception):
    """The processor failed on so many frames in a row that only a new process can help."""


class Streak:
    """How many frames the processor has failed on in a row, whichever stream's they are: one that another stream's
    frames go through is not to be given up."""

    def __init__(self) -> None:
        self.length = 0


class Guard:
    def __init__(
        self,
        processor: Processor,
        check: Callable[[torch.Tensor], None],
        report: Report,
        give_up_after: int,
        streak: Streak | None = None,
    ) -> None:
        """`check` raises for a picture that cannot be handed on. After `give_up_after` failures in a row, by the
        `streak` that it shares with others, `process` raises; 0: never."""
        self.errors = 0
        self._processor = processor
        self._check = check
        self._report = report
        self._give_up_after = give_up_after
        self._streak = streak or Streak()
        self._reported = 0.0

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Result | None:
        """What the processor made of the picture, checked; None when it failed. Raises ProcessorGivenUp."""
        return self._settle(lambda: self._process(image, frame), frame)

    def accept(self, answer: Answer, frame: FrameIdentity) -> Result | None:
        """As `process`, for a frame that was processed together with others."""
        return self._settle(lambda: answer, frame)

    def settle(self, begun: Future[Answer], frame: FrameIdentity) -> Result | None:
        """As `process`, for a frame that is under way: waits for it."""
        return self._settle(begun.result, frame)

    def _settle(self, answer: Callable[[], Answer], frame: FrameIdentity) -> Result | None:
        try:
            result = self._checked(answer())
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises costs one frame
            self._failed(error, frame)
            return None
        self._streak.length = 0
        return result

    def _process(self, image: torch.Tensor, frame: FrameIdentity) -> Answer:
        try:
            return self._processor.process(image, frame)
        except torch.OutOfMemoryError as error:
            # What the allocator keeps for later may be just what is missing now. Once: then it is not the allocator.
            torch.cuda.empty_cache()
            self._report("out_of_memory", seq=frame.seq, problem=_first_line(error), retried="once")
            return self._processor.process(image, frame)

    def _checked(self, answer: Answer) -> Result:
        result = answer if isinstance(answer, Result) else Result(answer)
        if len(result.before) >= MAX_PARTS:
            raise ProcessorError(f"gave {len(result.before) + 1} pictures for a frame; allowed: {MAX_PARTS}")
        for image in result.before if result.image is None else (*result.before, result.image):
            self._check(image)
        return result

    def _failed(self, error: Exception, frame: FrameIdentity) -> None:
        self.errors += 1
        self._streak.length += 1
        now = time.monotonic()
        if now - self._reported > REPORT_SECONDS or self._streak.length == self._give_up_after:
            self._reported = now
            self._report(
                "processor_error", seq=frame.seq, problem=f"{type(error).__name__}: {error}", count=self.errors
            )
        if self._streak.length == self._give_up_after:
            raise ProcessorGivenUp(f"the processor failed on {self._streak.length} frames in a row: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

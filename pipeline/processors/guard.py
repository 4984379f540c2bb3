"""Runs a processor so that whatever it raises costs one frame, is reported, and never passes in silence."""

import time
from collections.abc import Callable

import torch

from pipeline.processors.protocol import FrameIdentity, Processor, Result

REPORT_SECONDS = 1.0
"""A processor that fails on every frame is reported once in this time, with the count."""

Report = Callable[..., None]
"""Takes the name of an event and its fields."""


class ProcessorGivenUp(Exception):
    """The processor failed on so many frames in a row that only a new process can help."""


class Guard:
    def __init__(
        self, processor: Processor, check: Callable[[torch.Tensor], None], report: Report, give_up_after: int
    ) -> None:
        """`check` raises for a picture that cannot be handed on. After `give_up_after` failures in a row `process`
        raises; 0: never."""
        self.errors = 0
        self._processor = processor
        self._check = check
        self._report = report
        self._give_up_after = give_up_after
        self._in_a_row = 0
        self._reported = 0.0

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Result | None:
        """What the processor made of the picture, checked; None when it failed. Raises ProcessorGivenUp."""
        try:
            result = self._attempt(image, frame)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises costs one frame
            self._failed(error, frame)
            return None
        self._in_a_row = 0
        return result

    def _attempt(self, image: torch.Tensor, frame: FrameIdentity) -> Result:
        try:
            answer = self._processor.process(image, frame)
        except torch.OutOfMemoryError as error:
            # What the allocator keeps for later may be just what is missing now. Once: then it is not the allocator.
            torch.cuda.empty_cache()
            self._report("out_of_memory", seq=frame.seq, problem=_first_line(error), retried="once")
            answer = self._processor.process(image, frame)
        result = answer if isinstance(answer, Result) else Result(answer)
        if result.image is not None:
            self._check(result.image)
        return result

    def _failed(self, error: Exception, frame: FrameIdentity) -> None:
        self.errors += 1
        self._in_a_row += 1
        now = time.monotonic()
        if now - self._reported > REPORT_SECONDS or self._in_a_row == self._give_up_after:
            self._reported = now
            self._report(
                "processor_error", seq=frame.seq, problem=f"{type(error).__name__}: {error}", count=self.errors
            )
        if self._in_a_row == self._give_up_after:
            raise ProcessorGivenUp(f"the processor failed on {self._in_a_row} frames in a row: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

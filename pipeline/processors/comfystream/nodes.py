"""The nodes that join a workflow to the stream, under ComfyStream's names. ComfyStream's own carry no identity, drop
what is not fetched in time, and hand results to an asyncio queue from another thread; these do not."""

import queue
import time
from typing import Any, NamedTuple

import torch

from pipeline.processors.comfystream.prompt import LOAD, SAVE, SAVE_TEXT
from pipeline.processors.comfyui.nodes import mask_for, picture_output, text_output

_STRAY_SECONDS = 0.005
"""How long a workflow that is not the one in force rests before it ends, so that it does not spin."""


class Event(NamedTuple):
    """What became of the frame `number`: a picture, a text, or an error; with none of them, its run has ended. None:
    the run failed before it took a frame."""

    number: int | None
    image: torch.Tensor | None = None
    text: str | None = None
    error: Exception | None = None

    @property
    def ended(self) -> bool:
        return self.image is None and self.text is None and self.error is None


class Junction:
    """Between the processor's thread and the engine's. One frame is under way at a time."""

    def __init__(self) -> None:
        self.workflow = 0
        """The workflow in force. One with another number, such as ComfyStream's pass-through, gets no frame."""
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._frames: queue.SimpleQueue[tuple[int, torch.Tensor] | None] = queue.SimpleQueue()
        self._under_way: int | None = None
        self._mask: torch.Tensor | None = None

    def offer(self, number: int, image: torch.Tensor) -> None:
        """Make a picture the next run's input."""
        self._frames.put((number, image))

    def nudge(self) -> None:
        """Let the run that waits for a frame end without one, so that the client looks what to run."""
        if self._frames.empty():
            self._frames.put(None)

    def forget(self) -> None:
        """Take back what was offered and what was reported. Only while nothing runs."""
        for waiting in (self._frames, self.events):
            while not waiting.empty():
                waiting.get_nowait()

    def take(self, workflow: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The next frame's picture and mask, waited for; None when this run is to end without one."""
        self._end()
        if workflow != self.workflow:
            time.sleep(_STRAY_SECONDS)
            return None
        frame = self._frames.get()
        if frame is None:
            return None
        self._under_way, image = frame
        self._mask = mask_for(image, self._mask)
        return image, self._mask

    def give(self, image: torch.Tensor | None = None, text: str | None = None) -> None:
        self.events.put(Event(self._under_way, image, text))

    def fail(self, error: Exception) -> None:
        number, self._under_way = self._under_way, None
        self.events.put(Event(number, error=error))

    def _end(self) -> None:
        """A run begins, so the one before has ended."""
        if self._under_way is not None:
            self.events.put(Event(self._under_way))
            self._under_way = None


def make_nodes(junction: Junction, blocker: type) -> dict[str, type]:
    """The classes by name, bound to `junction`. `blocker` is the engine's ExecutionBlocker: nodes behind one rest."""

    class LivepipeLoadTensor:
        RETURN_TYPES = ("IMAGE", "MASK")
        FUNCTION = "give"
        CATEGORY = "livepipe"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"optional": {"workflow": ("INT", {"default": 0, "min": 0, "max": 1 << 62})}}

        @classmethod
        def IS_CHANGED(cls, **_: Any) -> float:
            return float("nan")  # Equal to nothing: what depends on the picture runs for each one, the rest once.

        def give(self, workflow: int = 0) -> tuple[Any, Any]:
            return junction.take(workflow) or (blocker(None), blocker(None))

    save = _in_each_run(picture_output(lambda images: junction.give(image=images)))
    save_text = _in_each_run(text_output(lambda text: junction.give(text=text)))
    return {LOAD: LivepipeLoadTensor, SAVE: save, SAVE_TEXT: save_text}


def _in_each_run(output: type) -> type:
    """The same output for an engine that keeps what did not change: each run gives its picture, even where no node
    behind the frame's made it."""

    class LivepipeSave(output):
        @classmethod
        def IS_CHANGED(cls, **_: Any) -> float:
            return float("nan")  # Equal to nothing.

    return LivepipeSave

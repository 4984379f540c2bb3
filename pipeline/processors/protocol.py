"""What every processor answers, whatever runs inside it. Inference knows processors only by this."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec
import torch

from pipeline.media.pcm import Pcm
from pipeline.status import Parameter


class FrameIdentity(msgspec.Struct, frozen=True, gc=False):
    """Which frame of which stream a picture is. `seq` rises by frame; `pts` is its time in 1/90000 s."""

    stream: str
    epoch: int
    seq: int
    pts: int


class Result(NamedTuple):
    """What a processor made of one frame: a picture as `process` takes one, in any size that the link behind holds, or
    None to withhold it; lines of text for whoever follows the stream; and pictures that are to be shown `before` that
    picture, evenly in the time since the one of the frame before, as a processor that interpolates makes them."""

    image: torch.Tensor | None = None
    texts: tuple[str, ...] = ()
    before: tuple[torch.Tensor, ...] = ()


Answer: TypeAlias = torch.Tensor | Result | None
"""A tensor is the picture; None withholds the frame."""


class Heard(NamedTuple):
    """What a processor made of sound: pieces of it, each at its own time, and lines of text."""

    sound: tuple[Pcm, ...] = ()
    texts: tuple[str, ...] = ()


class Processor(Protocol):
    """Turns one picture into another.

    Pictures are float32 tensors of shape (1, height, width, 3), RGB, in [0, 1], on the device given to `load`: the
    IMAGE of ComfyUI.
    """

    def load(self, device: torch.device) -> None:
        """Get everything that is needed onto `device`. Raises ProcessorError with what to mend."""

    def warm_up(self, height: int, width: int) -> None:
        """Pay for what is paid once, so that the first live frame does not."""

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Answer:
        """The new picture; None withholds the frame. `image` belongs to the caller and is overwritten by the next one:
        do not keep it.

        May raise anything: the frame is then counted as `processor_error` and reported, and the next one is tried.
        """

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change parameters, from the next picture on. Returns all that are in force then: a processor made with those
        does the same. Raises ProcessorError, with nothing changed, for one that is not known or not allowed."""

    def close(self) -> None:
        """Give back what `load` took."""


@runtime_checkable
class Described(Protocol):
    """A processor that can say what its parameters are."""

    def parameters(self) -> list[Parameter]:
        """Those that are in force, for a form to show."""


@runtime_checkable
class Concurrent(Protocol):
    """A processor that can have several frames under way."""

    def begin(self, image: torch.Tensor, frame: FrameIdentity) -> Future[Answer]:
        """As `process`, without waiting. `image` is left alone until the future is done."""


@runtime_checkable
class Batching(Protocol):
    """A processor that can take frames of several streams at a time."""

    def process_together(self, images: torch.Tensor, frames: Sequence[FrameIdentity]) -> Sequence[Answer]:
        """As `process` of each: `images` has the shape (n, height, width, 3), and n answers are given in their order.
        May raise anything: then each frame is tried alone."""


@runtime_checkable
class StreamAware(Protocol):
    """A processor that wants to know where streams begin and end. Either may raise anything, which is reported."""

    def begin_stream(self) -> None:
        """Before the first frame of a stream."""

    def end_stream(self) -> None:
        """After the last one. Another may begin."""


@runtime_checkable
class Listener(Protocol):
    """A processor that takes the sound too, when the topology says `audio: true`. Frames and sound come to it in one
    thread, in the order in which they arrive."""

    def hear(self, pcm: Pcm) -> Heard:
        """What a piece of sound completes. May raise anything: the piece is then handed on as it came, or left out, as
        `on_error` says, and reported."""

    def end_of_sound(self) -> Heard:
        """What is left when no more comes."""

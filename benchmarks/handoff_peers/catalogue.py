"""The transports by name: where each is written, what it needs, and what a frame costs it, roughly."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.handoff_peers.transport import Frame, Transport


class Entry(msgspec.Struct, frozen=True):
    """`us` and `us_per_mb` are what a hand-over took when last measured; the number of frames of a job is chosen by
    them. `in_place`: whether a producer can make the frame where the consumer reads it."""

    module: str
    kind: str
    arguments: tuple[Any, ...] = ()
    needs: str | None = None
    in_place: bool = True
    us: float = 60
    us_per_mb: float = 80

    @property
    def installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def make(self, frames: list[Frame]) -> Transport:
        kind: Callable[..., Transport] = getattr(
            importlib.import_module(f"benchmarks.handoff_peers.{self.module}"), self.kind
        )
        return kind(frames, *self.arguments)

    def microseconds(self, frame: Frame, copies: bool) -> float:
        return self.us + (self.us_per_mb * frame.nbytes / 1e6 if copies else 0)


OURS, OURS_LATEST, FLOOR, ICEORYX, TORCH = "link, block", "link, latest", "eventfd ring", "iceoryx2", "torch queue"

TRANSPORTS = {
    OURS: Entry("frame_link", "Link", ("block",)),
    OURS_LATEST: Entry("frame_link", "Link", ("latest",)),
    FLOOR: Entry("ring", "Ring", ("eventfd",)),
    "ring, SEQPACKET": Entry("ring", "Ring", ("seqpacket",)),
    "ring, ZeroMQ": Entry("ring", "Ring", ("zeromq",)),
    ICEORYX: Entry("iceoryx", "Iceoryx", needs="iceoryx2"),
    TORCH: Entry("queues", "TorchQueue", needs="torch", in_place=False, us=1000, us_per_mb=650),
    "numpy queue": Entry("queues", "NumpyQueue", in_place=False, us=300, us_per_mb=3500),
    "ZeroMQ, pixels": Entry("zmq_pixels", "ZmqPixels", in_place=False, us=150, us_per_mb=250),
}

FRAMES = {
    "512": Frame("512x512 uint8", 512, 512),
    "512f": Frame("512x512 float32", 512, 512, sample_bytes=4),
    "1080p": Frame("1920x1080 uint8", 1920, 1080),
    "4k": Frame("3840x2160 uint8", 3840, 2160),
}

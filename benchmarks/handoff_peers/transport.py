"""What every transport is to the benchmark: something made once, inherited by two processes, with an end for each.

It knows nothing of clocks, paces or processes; those are in `end` and `pair`.
"""

import os
from abc import ABC, abstractmethod
from contextlib import ExitStack
from multiprocessing.context import get_spawning_popen
from typing import Any

import msgspec

CHANNELS = 3
SLOTS = 4
"""How many frames a transport with a bound of its choice may hold."""


class Frame(msgspec.Struct, frozen=True):
    """A kind of RGB frame. To a transport it is so many bytes."""

    name: str
    width: int
    height: int
    sample_bytes: int = 1

    @property
    def nbytes(self) -> int:
        return self.width * self.height * CHANNELS * self.sample_bytes


class Producer(ABC):
    """The sending end, in a process of its own."""

    def fresh(self, pixels: memoryview) -> Any:
        """`pixels` in the form that `send` takes. Called before the clock starts."""
        return pixels

    @abstractmethod
    def send(self, seq: int, source: Any) -> None:
        """Hand over frame `seq`: a copy of `source`, or written in place when that is None. Waits while the transport
        is full."""

    def close(self) -> None:  # noqa: B027 - not every transport has something to let go of
        """Let go. Called after the other end has received everything."""


class Consumer(ABC):
    """The receiving end, in a process of its own."""

    @abstractmethod
    def receive(self) -> tuple[int, Any]:
        """Wait for a frame: its number and its bytes, which can be indexed until `release`."""

    @abstractmethod
    def release(self) -> None:
        """Give the frame back."""

    def close(self) -> None:  # noqa: B027
        """Let go."""


class Transport(ABC):
    """Made by the benchmark, pickled into both ends while they are spawned."""

    def __init__(self) -> None:
        self.owned = ExitStack()
        self.fds: list[int] = []
        self.acknowledgements = self.inherit(os.eventfd(0))

    def inherit(self, fd: int) -> int:
        """Own `fd`, and give it to both ends under the same number."""
        self.owned.callback(os.close, fd)
        self.fds.append(fd)
        return fd

    @abstractmethod
    def producer(self, frame: Frame) -> Producer: ...

    @abstractmethod
    def consumer(self, frame: Frame) -> Consumer:
        """Opened before the producer."""

    def close(self) -> None:
        self.owned.close()

    def __getstate__(self) -> dict[str, Any]:
        spawning = get_spawning_popen()
        assert spawning is not None  # Descriptors cannot be pickled for anything else.
        for fd in self.fds:
            spawning.duplicate_for_child(fd)  # Keeps the number.
        return {name: value for name, value in vars(self).items() if name != "owned"}


def write_frame(slot: memoryview, seq: int, source: memoryview | None) -> None:
    """What a producer does to a slot. In place it writes no more than what consumers look at: the benchmark is of
    the hand-over, and making the pixels costs every transport the same."""
    if source is None:
        slot[0] = slot[-1] = seq & 255
    else:
        slot[:] = source

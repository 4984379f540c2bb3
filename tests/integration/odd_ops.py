"""Processors that misbehave, for the tests to name in a topology."""

import asyncio
import atexit
import ctypes
import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import torch

from pipeline.processors.protocol import FrameIdentity, Result

_calls = itertools.count(1)
_calls_failed: list[int] = []

BIG_BYTES = 200 << 20


def slow(image: torch.Tensor, seconds: float = 0.1) -> torch.Tensor:
    """Takes its time over every picture that is not black: a model that is slower than the stream, once warm."""
    if image.any():
        time.sleep(seconds)
    return image


def stuck(image: torch.Tensor, seconds: float = 20.0) -> torch.Tensor:
    """Says that it has a picture that is not black, and keeps it."""
    if image.any():
        print("has a picture", flush=True)
        time.sleep(seconds)
    return image


def slow_to_leave(image: torch.Tensor) -> torch.Tensor:
    """A model whose process takes longer to exit than a heartbeat may be missing."""
    if next(_calls) == 1:
        atexit.register(time.sleep, 2.5)
    return image


def fails_sometimes(image: torch.Tensor, every: int = 10) -> torch.Tensor:
    if next(_calls) % every == 0:
        raise RuntimeError("the model did not like this picture")
    return 1 - image


def fails_in_its_first_life(image: torch.Tensor, mark: str, after: int = 20) -> torch.Tensor:
    """Fails on every picture from some number on, until its process is another one."""
    if next(_calls) > after and (_calls_failed or _is_first(Path(mark))):
        _calls_failed.append(1)
        raise RuntimeError("stuck")
    return image


def says(image: torch.Tensor, word: str = "one") -> Result:
    """Text beside every picture that is not black."""
    return Result(1 - image, (word,) if image.any() else ())


def tells_identity(image: torch.Tensor, frame: FrameIdentity, word: str = "plain", other: int = 0) -> Result:
    """Says of which stream a frame is, and its own parameters, beside every picture that is not black."""
    return Result(image, (f"{frame.stream} {frame.epoch} {word} {other}",) if image.any() else ())


async def hangs_for(image: torch.Tensor, frame: FrameIdentity, stream: str = "") -> torch.Tensor:
    """Never has done with a picture of this stream that is not black."""
    if frame.stream == stream and image.any():
        await asyncio.Event().wait()
    return image


class DiesOverItsFirstChange:
    """Once; the process behind it takes the change."""

    def __init__(self, mark: str, word: str = "plain") -> None:
        self.mark, self.word = Path(mark), word

    def update(self, word: str = "plain", mark: str = "") -> None:
        if word != self.word and _is_first(self.mark):
            os.kill(os.getpid(), signal.SIGKILL)
        self.word = word

    def __call__(self, image: torch.Tensor) -> Result:
        return Result(image, (self.word,) if image.any() else ())


def together(image: torch.Tensor, frame: list[FrameIdentity], fails: bool = False) -> list[Result]:
    """Inverted, and how many came at a time is said of each."""
    if fails:
        raise ValueError("as it was told")
    return [Result(1 - picture, (str(len(image)),)) for picture in image.split(1)]


def withholds(image: torch.Tensor, every: int = 3) -> Result | torch.Tensor:
    return Result() if next(_calls) % every == 0 else image


def resizing(image: torch.Tensor, every: int = 60) -> torch.Tensor:
    """Inverted, and half as wide again, centred, in every other run of so many pictures that are not black."""
    number = next(_calls) if image.any() else 0
    inverted = 1 - image
    if number // every % 2 == 0:
        return inverted
    side = image.shape[2] // 4
    return torch.nn.functional.pad(inverted, (0, 0, side, side))


def wrong_size(image: torch.Tensor) -> torch.Tensor:
    return image[:, ::2, ::2]


def dies(image: torch.Tensor, ways: list[str], marks: str, after: int = 10) -> torch.Tensor:
    """Each life of the process ends after some pictures that are not black, in the first of `ways` that was not gone
    yet: the folder `marks` keeps count. The life after the last of them goes on."""
    if image.any() and next(_calls) >= after:
        for way in ways:
            if _is_first(Path(marks) / way):
                _WAYS[way]()
    return image


def talks_and_dies(image: torch.Tensor, mark: str, lines: int) -> torch.Tensor:
    """Prints without need, says in two lines what it dies of, and dies; once."""
    if image.any() and _is_first(Path(mark)):
        print(*(f"needless {number}" for number in range(lines)), sep="\n")
        print("cannot go on:\n  out of words", flush=True)
        os._exit(7)
    return image


class LoadsForEver:
    def __init__(self) -> None:
        time.sleep(3600)


class LoadsWhen:
    """A model that has loaded once the file `mark` is there."""

    def __init__(self, mark: str) -> None:
        while not Path(mark).exists():
            time.sleep(0.01)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


class DeadlocksOnce:
    """A model whose loading takes a lock that it has, the first time."""

    def __init__(self, mark: str) -> None:
        lock = threading.Lock()
        lock.acquire()
        if _is_first(Path(mark)):
            lock.acquire()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _die_for_memory() -> None:
    """As the kernel's OOM killer does it."""
    hoard = bytearray(os.urandom(1) * BIG_BYTES)
    os.kill(os.getpid(), signal.SIGKILL)
    del hoard


def _leave_a_child() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    print(f"left behind {child.pid}", flush=True)
    os._exit(0)


_WAYS = {
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "memory": _die_for_memory,
    "child": _leave_a_child,
    "hold_gil": lambda: ctypes.PyDLL(None).pause(),
    "native": lambda: ctypes.CDLL(None).pause(),
}
"""By name: how a process ends, or hangs with the interpreter locked and with it free."""

"""Processors that take the sound, make several pictures of one, or work on several at a time."""

import asyncio
import itertools
from typing import Any

import torch

from pipeline.processors.protocol import Result

_pieces = itertools.count(1)
under_way: list[int] = []
most: list[int] = [0]


class Quieter:
    """The negative, and the sound at three quarters of its loudness."""

    def __init__(self, gain: float = 0.75) -> None:
        self.gain = gain

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return 1 - image

    def audio(self, samples: torch.Tensor) -> torch.Tensor:
        return samples * self.gain


class Counts(Quieter):
    """Says the number of each picture that is not black."""

    def __call__(self, image: torch.Tensor) -> Result:
        return Result(1 - image, (f"picture {next(_pieces)}",) if image.any() else ())


class FailsToHear(Quieter):
    def audio(self, samples: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("too loud")


class Listens(Quieter):
    """Says how loud it is, now and then; the sound goes on as it came."""

    def audio(self, samples: torch.Tensor) -> Any:
        return f"peak {samples.abs().max():.2f}"


class Doubles:
    """A picture more between each two: the mean of both."""

    def __init__(self) -> None:
        self.before: torch.Tensor | None = None

    def __call__(self, image: torch.Tensor) -> Result:
        new = 1 - image
        between = () if self.before is None or self.before.shape != new.shape else ((self.before + new) / 2,)
        self.before = new
        return Result(new, before=between)


async def at_a_time(image: torch.Tensor, seconds: float = 0.1) -> Result:
    """Takes so long over every picture, and says how many others it was busy with meanwhile."""
    under_way.append(1)
    result = 1 - image
    busy = len(under_way)
    await asyncio.sleep(seconds)
    under_way.pop()
    return Result(result, (f"{busy} under way",) if image.any() else ())


async def fails_at_a_time(image: torch.Tensor, every: int = 10) -> torch.Tensor:
    """Draws in the picture that it is given, and fails on some while others are under way."""
    image.neg_().add_(1)
    await asyncio.sleep(0.05)
    if next(_pieces) % every == 0:
        raise RuntimeError("the model did not like this picture")
    return image

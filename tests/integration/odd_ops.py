"""Processors that misbehave, for the tests to name in a topology."""

import atexit
import itertools
import time

import torch

_calls = itertools.count(1)


def slow(image: torch.Tensor, seconds: float = 0.1) -> torch.Tensor:
    """Takes its time over every picture that is not black: a model that is slower than the stream, once warm."""
    if image.any():
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
    return image


def wrong_size(image: torch.Tensor) -> torch.Tensor:
    return image[:, ::2, ::2]

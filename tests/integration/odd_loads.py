"""A model that takes its time to load, for the tests to name in a topology."""

import time

import torch


class SlowToLoad:
    def __init__(self, seconds: float) -> None:
        time.sleep(seconds)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image

"""Decoded sound as it travels between decoder, processors and encoder: data and the arithmetic of its clock."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ

SAMPLE_RATE = 48_000

LAYOUTS = {1: "mono", 2: "stereo"}
"""FFmpeg's names of the channel layouts that sound is decoded to."""


class Pcm(msgspec.Struct, frozen=True, gc=False):
    """`samples`, float32 [channels, n] in [-1, 1] at SAMPLE_RATE, one channel (mono) or two (left, right); the first
    is heard at `pts`, 90 kHz ticks."""

    pts: int
    samples: NDArray[np.float32]

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])


def ticks_of(samples: int, rate: int = SAMPLE_RATE) -> int:
    """How long so many samples last, in 90 kHz ticks."""
    return round(samples * CLOCK_HZ / rate)


def samples_of(ticks: int) -> int:
    """How many samples at SAMPLE_RATE so many 90 kHz ticks are."""
    return round(ticks * SAMPLE_RATE / CLOCK_HZ)

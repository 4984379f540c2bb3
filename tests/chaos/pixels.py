"""Frames that prove what they are: every byte depends on the frame's number and on the byte's place.

A frame that is torn, mixed with another, left as it was, or processed never, by half or twice, is told from a good one.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.boot import FrameFormat

FORMAT = FrameFormat(128, 128)
NBYTES = FORMAT.nbytes

Pixels = NDArray[np.uint8]

_PERIOD = 65_521
_SHIFT = 101
_NOISE = np.random.default_rng(65_521).integers(0, 256, NBYTES + _PERIOD, np.uint8)
_scratch = np.empty(NBYTES, np.uint8)


def view_of(data: memoryview) -> Pixels:
    """A slot's bytes as an array."""
    return np.frombuffer(data, np.uint8)


def paint(out: Pixels, seq: int, first: int = 0, last: int = NBYTES) -> None:
    """What the source writes for frame `seq`, from byte `first` to before byte `last`."""
    start = seq % _PERIOD
    np.bitwise_xor(_NOISE[start + first : start + last], seq // _PERIOD & 0xFF, out=out[first:last])


def style(source: Pixels, out: Pixels) -> None:
    """What the middle makes of a frame."""
    np.add(source, _SHIFT, out=out)


def is_painted(pixels: Pixels, seq: int) -> bool:
    """Whether every byte is what the source wrote for frame `seq`."""
    paint(_scratch, seq)
    return np.array_equal(pixels, _scratch)


def is_styled(pixels: Pixels, seq: int) -> bool:
    """Whether every byte is what the middle makes of frame `seq`."""
    paint(_scratch, seq)
    style(_scratch, _scratch)
    return np.array_equal(pixels, _scratch)

"""What is kept of a picture to tell whether another one is the same: a digest of its pixels, and a sketch of them.

Equal digests mean equal pixels. The sketch says how far apart two others are: the mean of sampled pixels in each of
8 x 8 fields. Both are taken before the encoder, whose output depends on the bitrate of the moment.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

FIELDS = 8
"""A side of the grid; a sketch has so many squared, times three, bytes."""

_SAMPLES = 8
"""A side of the samples in each field."""

_DIGEST_BYTES = 16


def digest_of(rgb: NDArray[np.uint8]) -> bytes:
    """BLAKE2b of uint8 [height, width, 3], contiguous."""
    return hashlib.blake2b(rgb.data, digest_size=_DIGEST_BYTES).digest()


def sketch_of(rgb: NDArray[np.uint8]) -> bytes:
    """The means, row by row, RGB. Of the same places in every picture of the same size."""
    side = FIELDS * _SAMPLES
    rows = np.arange(side) * rgb.shape[0] // side
    columns = np.arange(side) * rgb.shape[1] // side
    sampled = rgb[rows[:, None], columns]
    means = sampled.reshape(FIELDS, _SAMPLES, FIELDS, _SAMPLES, 3).mean(axis=(1, 3))
    return bytes(np.rint(means).astype(np.uint8))

"""Single pictures: taken out of MPEG-TS segments, and written as PNG."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from pipeline.media.decoder import VideoDecoder
from pipeline.media.scaler import Fit, FrameScaler
from pipeline.media.ts_demux import TsDemuxer

_WRAP = 1 << 33


def decode_first_frame(ts: bytes) -> tuple[int, NDArray[np.uint8]] | None:
    """Time (90 kHz) and picture, uint8 [H, W, 3], of the first frame in MPEG-TS bytes; None if there is none."""
    for frame in _frames([ts]):
        assert frame.pts is not None
        return frame.pts, rgb_of(frame)
    return None


def find_frame(ts_segments: Iterable[bytes], pts: int, tolerance: int = 0) -> NDArray[np.uint8] | None:
    """The picture at `pts` (90 kHz, modulo 2**33, give or take `tolerance`) as uint8 [H, W, 3]; None if not there."""
    for frame in _frames(ts_segments):
        assert frame.pts is not None
        distance = (frame.pts - pts) % _WRAP
        if min(distance, _WRAP - distance) <= tolerance:
            return rgb_of(frame)
    return None


def rgb_of(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as RGB of its own size, uint8 [H, W, 3], in memory of its own."""
    rgb = np.empty((frame.height, frame.width, 3), np.uint8)
    FrameScaler(frame.width, frame.height, Fit.STRETCH).scale_into(frame, rgb)
    return rgb


def write_side_by_side(path: str | PathLike[str], left: NDArray[np.uint8], right: NDArray[np.uint8]) -> None:
    """Write a PNG with both pictures, uint8 [H, W, 3] of any sizes, scaled to the height of the taller one.

    Raises OSError if `path` cannot be written; a reader never sees half a file.
    """
    height = max(left.shape[0], right.shape[0])
    both = np.ascontiguousarray(np.concatenate([_scaled(left, height), _scaled(right, height)], axis=1))
    target = Path(path)
    part = target.with_name(target.name + ".part")
    part.write_bytes(_png(both))
    os.replace(part, target)


def _frames(ts_segments: Iterable[bytes]) -> Iterator[av.VideoFrame]:
    demuxer = TsDemuxer()
    decoder = VideoDecoder(1, 1)
    for segment in ts_segments:
        for unit in [*demuxer.feed(segment), *demuxer.flush()]:
            if unit.is_video:
                yield from decoder.decode(unit)
    yield from decoder.flush()


def _scaled(rgb: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    if rgb.shape[0] == height:
        return rgb
    width = max(1, round(rgb.shape[1] * height / rgb.shape[0]))
    frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), "rgb24")
    return np.asarray(
        frame.reformat(width, height, "rgb24", interpolation=Interpolation.BICUBIC).to_ndarray(), np.uint8
    )


def _png(rgb: NDArray[np.uint8]) -> bytes:
    context = av.CodecContext.create("png", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = rgb.shape[:2]
    context.pix_fmt = "rgb24"
    context.time_base = Fraction(1, 1)
    packets = context.encode(av.VideoFrame.from_numpy_buffer(rgb, "rgb24")) + context.encode(None)
    return b"".join(bytes(packet) for packet in packets)
